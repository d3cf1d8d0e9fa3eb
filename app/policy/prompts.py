"""Prompts, as text and as tokens. Their words are in `app/policy/wording.py`.

A post from X is data. It is fenced in the prompt, cannot close its fence, and is turned into tokens apart from the chat
template, so that no text of a stranger can become a special token: `<|im_end|>` in a post is nine ordinary ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from app.config import PersonaConfig
from app.policy.fence import clean, shown
from app.policy.model import special_ids
from app.policy.wording import (
    CRITERIA,
    HABIT,
    JUDGE,
    JUDGE_REQUEST,
    JUDGED_EXAMPLES,
    POST_EXAMPLES,
    POST_REQUEST,
    QUOTE_REQUEST,
    REPLY_EXAMPLES,
    REPLY_REQUEST,
    SUMMARISER,
    SUMMARY_EXAMPLES,
    SUMMARY_OPENING,
    SUMMARY_REQUEST,
)
from app.safety import FENCE

LONGEST_SUMMARY = 200  # characters of an account summary
LONGEST_SUMMARISED = 280  # characters of each post that it is made from
MARK = re.compile("\ue000([0-9]+)\ue001")  # where a slot is, while the chat template is rendered


class PromptError(ValueError):
    """A prompt that cannot be made. The message says why and which setting to change."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model reads it. `text` is what `token_ids` decode to."""

    text: str
    token_ids: list[int]


class Said(NamedTuple):
    """A post of somebody, as it is shown to the model."""

    handle: str | None
    text: str


@dataclass(frozen=True)
class Target:
    """What is answered or quoted: the post, the posts above it (the oldest first), who wrote it."""

    post: Said
    thread: Sequence[Said] = field(default=())
    account_summary: str | None = None


class Data(str):
    """Words that are not ours: they never become special tokens and never close a fence."""

    __slots__ = ()


Parts = list[str]  # our words, and theirs as `Data`, in the order in which they are read


class PromptBuilder:
    """Builds prompts with one model's tokenizer and chat template.

    Args:
        tokenizer: a fast tokenizer with a chat template.
        max_tokens: longest prompt; context is left out, the oldest first, to keep to it.
        examples: show the model how it is done; a model that is trained on the answer itself needs none.

    Raises:
        PromptError: the tokenizer would turn text into special tokens even when told not to.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, *, examples: bool = True) -> None:
        self._tokenizer = tokenizer
        self._examples = examples
        self._max_tokens = max_tokens
        self._special = special_ids(tokenizer)
        for token in tokenizer.convert_ids_to_tokens(sorted(self._special)):
            if self._special & set(self._plain_ids(token)):
                raise PromptError(f"this model's tokenizer makes {token!r} a special token in any text; use another")

    def reply(self, persona: PersonaConfig, target: Target) -> Prompt:
        """A reply to a post."""
        return self._answer(persona, target, REPLY_REQUEST)

    def quote(self, persona: PersonaConfig, target: Target) -> Prompt:
        """A post that quotes another."""
        return self._answer(persona, target, QUOTE_REQUEST)

    def own_post(self, persona: PersonaConfig, topic: str, talk: Sequence[Said] = ()) -> Prompt:
        """A post of its own on a topic, with what the community says about it, the oldest first."""
        talk, examples = list(talk), list(POST_EXAMPLES if self._examples else ())
        while True:
            turns = [("system", _system(persona))]
            for subject, answer in examples:
                turns += [("user", _request(POST_REQUEST, Data(subject))), ("assistant", [answer])]
            heard: Parts = ["People you follow posted:\n", *_posts(talk)] if talk else []
            turns += [("user", [*heard, *_request(POST_REQUEST, Data(topic))])]
            prompt = self._render(*turns)
            if len(prompt.token_ids) <= self._max_tokens:
                return prompt
            if not (talk or examples):
                raise self._too_long(prompt)
            (talk or examples).pop(0)

    def judgement(self, criterion: str, text: str) -> Prompt:
        """A question about the text of a post, to be answered with Yes or No.

        Args:
            criterion: newsworthy or substantive.
        """
        turns: list[tuple[str, Parts]] = [("system", [JUDGE])]
        for example, answer in JUDGED_EXAMPLES[criterion]:
            turns += [("user", _question(criterion, example)), ("assistant", [answer])]
        while True:
            prompt = self._render(*turns, ("user", _question(criterion, text)))
            if len(prompt.token_ids) <= self._max_tokens:
                return prompt
            if not text:
                raise PromptError(
                    f"the question alone takes {len(prompt.token_ids)} of model.max_prompt_tokens="
                    f"{self._max_tokens} tokens; raise that"
                )
            text = text[: len(text) // 2]

    def account_summary(self, handle: str, bio: str | None, posts: Sequence[str]) -> Prompt:
        """A request to say what an account writes about, with the answer's first words. `posts`: the oldest first."""
        turns: list[tuple[str, Parts]] = [("system", [SUMMARISER])]
        for name, texts, answer in SUMMARY_EXAMPLES:
            turns += [("user", _profile(name, None, texts)), ("assistant", [SUMMARY_OPENING + answer])]
        left = [text[:LONGEST_SUMMARISED] for text in posts]
        while True:
            asked = self._render(*turns, ("user", _profile(handle, bio, left)))
            opening = self._tokenizer(SUMMARY_OPENING, add_special_tokens=False).input_ids
            prompt = Prompt(asked.text + SUMMARY_OPENING, [*asked.token_ids, *opening])
            if len(prompt.token_ids) <= self._max_tokens or len(left) <= 1:
                return prompt
            left.pop(0)

    def answer(self, text: str) -> list[int]:
        """What the model shall say after a prompt, and that it ends there."""
        return [*self._data_ids(clean(text).replace("\n", " ")), int(self._tokenizer.eos_token_id)]

    def _answer(self, persona: PersonaConfig, target: Target, request: str) -> Prompt:
        """Leave out the oldest posts of the thread, then the summary, then examples, then the end of the post."""
        examples = list(REPLY_EXAMPLES if self._examples else ())
        while True:
            turns = [("system", _system(persona))]
            for handle, text, answer in examples:
                turns += [("user", _conversation(Target(Said(handle, text)), REPLY_REQUEST)), ("assistant", [answer])]
            prompt = self._render(*turns, ("user", _conversation(target, request)))
            if len(prompt.token_ids) <= self._max_tokens:
                return prompt
            if target.thread:
                target = replace(target, thread=target.thread[1:])
            elif target.account_summary:
                target = replace(target, account_summary=None)
            elif examples:
                examples.pop(0)
            elif len(target.post.text) > 1:
                shorter = target.post.text[: len(target.post.text) // 2]
                target = replace(target, post=target.post._replace(text=shorter))
            else:
                raise self._too_long(prompt)

    def _too_long(self, prompt: Prompt) -> PromptError:
        return PromptError(
            f"the persona alone takes {len(prompt.token_ids)} of model.max_prompt_tokens={self._max_tokens} tokens; "
            "raise that, or shorten the persona's description, tone or interests"
        )

    def _render(self, *turns: tuple[str, Parts]) -> Prompt:
        """Render with the chat template, then turn our words and theirs into tokens apart from each other."""
        slots: list[str] = []
        messages = [{"role": role, "content": _with_marks(parts, slots)} for role, parts in turns]
        rendered = str(self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        text, token_ids = "", list[int]()
        pieces = MARK.split(rendered)  # ours, number of a slot, ours, number of a slot … ours
        for at, piece in enumerate(pieces):
            if at % 2 == 0:
                # A space belongs to the word after it: "you are Ada" has the token " Ada", not " " and "Ada".
                ours = piece.removesuffix(" ") if at + 1 < len(pieces) else piece
                text += ours
                token_ids += self._tokenizer(ours, add_special_tokens=False).input_ids
            else:
                theirs = (" " if pieces[at - 1].endswith(" ") else "") + slots[int(piece)]
                text += theirs
                token_ids += self._data_ids(theirs)
        return Prompt(text, token_ids)

    def _data_ids(self, text: str) -> list[int]:
        token_ids = self._plain_ids(text)
        if self._special & set(token_ids):
            raise PromptError(f"a special token came out of untrusted text {text[:60]!r}; nothing was made of it")
        return token_ids

    def _plain_ids(self, text: str) -> list[int]:
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return list(encoded.input_ids)


def _question(criterion: str, text: str) -> Parts:
    return ["Post:\n", *_fenced(text), "\n", CRITERIA[criterion], JUDGE_REQUEST]


def _system(persona: PersonaConfig) -> Parts:
    return [
        "You are ",
        Data(persona.name),
        ", an account on X. ",
        Data(persona.description),
        "\nYour tone: ",
        Data(persona.tone),
        "\nYou care about: ",
        Data(", ".join(persona.interests)),
        "\n" + HABIT,
    ]


def _conversation(target: Target, request: str) -> Parts:
    author = _name(target.post.handle)
    parts: Parts = []
    if target.thread:
        parts += ["The conversation so far:\n", *_posts(target.thread)]
    if target.account_summary:
        summary = clean(target.account_summary).replace("\n", " ")[:LONGEST_SUMMARY]
        parts += ["About ", author, ": ", Data(summary), "\n"]
    return [*parts, *_posts([target.post]), *_request(request, author)]


def _request(request: str, slot: Data) -> Parts:
    before, after = request.split("{}")
    return [before, slot, after]


def _profile(handle: str, bio: str | None, posts: Sequence[str]) -> Parts:
    name = _name(handle)
    about: Parts = [name, " says of itself:\n", *_fenced(bio), "\n"] if bio else []
    return [*about, *_posts([Said(handle, text) for text in posts]), *_request(SUMMARY_REQUEST, name)]


def _posts(posts: Sequence[Said]) -> Parts:
    parts: Parts = []
    for post in posts:
        parts += [_name(post.handle), " posted:\n", *_fenced(post.text), "\n"]
    return parts


def _name(handle: str | None) -> Data:
    return Data("@" + handle if handle else "Somebody")


def _fenced(text: str) -> Parts:
    return [FENCE, "\n", Data(shown(text)), "\n", FENCE]


def _with_marks(parts: Parts, slots: list[str]) -> str:
    """Our words as they are, and in place of theirs a mark with the slot's number."""
    message = ""
    for part in parts:
        if isinstance(part, Data):
            message += f"\ue000{len(slots)}\ue001"
            slots.append(clean(part))
        else:
            message += part
    return message
