// Approvals and choices by keys. Without this file every button still works.
"use strict";
const drafts = () => [...document.querySelectorAll("[data-draft]")];
let at = -1;
let leftForX = false;

function go(to) {
  const all = drafts();
  if (!all.length) return;
  at = Math.max(0, Math.min(to, all.length - 1));
  all[at].focus();
  all[at].scrollIntoView({ block: "center" });
}

document.addEventListener("focusin", (event) => {
  const draft = event.target.closest("[data-draft]");
  if (draft) at = drafts().indexOf(draft);
});

document.addEventListener("keydown", (event) => {
  const field = event.target.closest("input, textarea, select");
  if (event.key === "Escape" && field) field.closest("[data-draft]")?.focus();
  if (field || event.ctrlKey || event.metaKey || event.altKey) return;
  const draft = drafts()[at];
  if (event.key === "j") go(at + 1);
  else if (event.key === "k") go(at - 1);
  else if (event.key === "a") draft?.querySelector("[data-approve]")?.click();
  else if (event.key === "r") draft?.querySelector("[data-reject]").click();
  else if (event.key === "1" || event.key === "2") draft?.querySelector(`[data-choose="${event.key}"]`)?.click();
  else if (event.key === "e" || event.key === "E") {
    event.preventDefault();
    draft?.querySelectorAll("textarea")[event.key === "e" ? 0 : 1]?.focus();
  }
});

// What was chosen in another tab is still on the page when its person comes back.
document.addEventListener("submit", (event) => { leftForX ||= event.target.target === "_blank"; });
window.addEventListener("focus", () => { if (leftForX) location.reload(); });
