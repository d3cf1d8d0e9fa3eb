"""Backtests of several communities as tables and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from pathlib import Path
from typing import Any

UNMEASURED = "not measured"
# Of the sandbox's traits, those in which the shipped tastes differ most.
ALL_SHOWN = ("warmth", "concreteness", "first_person", "reasoning", "hedging", "certainty", "hostility", "brevity")


@dataclass
class Comparison:
    """The arms of one community, by their reports."""

    plan: Mapping[str, Any]
    arms: dict[str, dict[str, Any]] = field(default_factory=dict)


def as_markdown(compared: Sequence[Comparison], *, shown: Sequence[str]) -> str:
    """What was learnt, what was said, and which way the drafts moved."""
    parts = [
        "## Lift",
        "",
        "| community | seed | posts | updates | trained (95 %, over prompts) | shuffled | oracle | "
        "share of the oracle's |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_lift_row(item) for item in compared),
        "",
        "## Safety, and what the lift cost",
        "",
        "Hostile by the sandbox's own judgement: how many of how many, and the one-sided 95 % bound on the share "
        "(Clopper and Pearson).",
        "",
        "| community | seed | arm | rules | posted | last checkpoint, held-out topics | refused by the rules | "
        "blocks | reach lost | angry quotes | angry replies |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_safety_row(item, arm, report) for item in compared for arm, report in sorted(item.arms.items())),
        "",
        "## Which way the drafts moved",
        "",
        "The mean of each trait over the last checkpoint's drafts on held-out topics, and how far that is from the "
        "first's. Only drafts that the rules let through.",
        "",
        f"| community | seed | arm | {' | '.join(shown)} |",
        f"| --- | --- | --- |{' --- |' * len(shown)}",
        *(_trait_row(item, arm, report, shown) for item in compared for arm, report in sorted(item.arms.items())),
    ]
    return "\n".join(parts)


def named(item: Comparison) -> str:
    """A community by its name, and by its mechanism where that is not the usual one."""
    plan = item.plan
    name = Path(plan["community"]).stem
    return name if plan["mechanism"] == "taste" else f"{name}, {plan['mechanism'].replace('_', ' ')}"


def _lift_row(item: Comparison) -> str:
    trained, shuffled, oracle = (item.arms.get(arm) for arm in ("trained", "shuffled", "oracle"))
    posted = trained or oracle or shuffled or {}
    return "| " + " | ".join(
        [
            named(item),
            str(item.plan["seed"]),
            str(posted["posted"]),
            " / ".join(str(report["updates"]) for report in (trained, shuffled, oracle) if report),
            _lift(trained),
            _lift(shuffled),
            _lift(oracle),
            _share(trained, oracle),
        ]
    ) + " |"  # fmt: skip


def _lift(report: dict[str, Any] | None) -> str:
    if report is None:
        return "not run"
    if report["lift"] is None:
        return "none: the start earns nothing"
    low, high = report["lift_ci95"]
    return f"{report['lift']:+.0%} ({low:+.0%} to {high:+.0%})"


def _share(trained: dict[str, Any] | None, oracle: dict[str, Any] | None) -> str:
    """Of the oracle's lift, what was found out from likes; nothing where the oracle itself did not learn."""
    if trained is None or oracle is None or trained["lift"] is None or oracle["lift"] is None:
        return "-"
    if oracle["lift_ci95"][0] <= 0:
        return "- (the oracle's is not above 0)"
    return f"{trained['lift'] / oracle['lift']:.0%}"


def _safety_row(item: Comparison, arm: str, report: dict[str, Any]) -> str:
    safety = report.get("safety")
    refused = report.get("refused_share")
    cells = [named(item), str(item.plan["seed"]), arm, report.get("rules", "not recorded")]
    if safety is None:
        cells += [UNMEASURED, UNMEASURED]
    else:
        cells += [_hostile(safety["posted"]), _hostile(safety["held_out"])]
    cells.append(UNMEASURED if refused is None else f"{refused:.0%}")
    if safety is None:
        cells += [UNMEASURED] * 4
    else:
        cost = safety["cost"]
        cells += [f"{cost['blocks']}", f"{cost['reach_lost']:.1%}"]
        cells += [f"{cost['angry_quotes']} of {cost['quotes']}", f"{cost['angry_replies']} of {cost['replies']}"]
    return f"| {' | '.join(cells)} |"


def _hostile(said: dict[str, Any] | None) -> str:
    if said is None or said["upper95"] is None:
        return "nothing was said"
    return f"{said['hostile']} of {said['count']}, at most {said['upper95']:.1%}"


def _trait_row(item: Comparison, arm: str, report: dict[str, Any], shown: Sequence[str]) -> str:
    cells = [named(item), str(item.plan["seed"]), arm]
    for trait in shown:
        ends = _ends(report, trait)
        cells.append(UNMEASURED if ends is None else f"{ends[1]:.2f} ({ends[1] - ends[0]:+.2f})")
    return f"| {' | '.join(cells)} |"


def _ends(report: dict[str, Any], trait: str) -> tuple[float, float] | None:
    """The mean of a trait at the first and at the last checkpoint, if both are known."""
    first, last = (point.get("traits", {}).get(trait) for point in (report["curve"][0], report["curve"][-1]))
    return None if first is None or last is None else (first, last)


def plot(compared: Sequence[Comparison], file: Path) -> None:
    """Lift by community and arm with its interval; beside it, how the traits of the trained arm's drafts moved."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (lifts, traits) = pyplot.subplots(
        1, 2, figsize=(13, 1.6 + 0.7 * len(compared)), constrained_layout=True, width_ratios=(1, 1.2)
    )
    labels = [f"{named(item)}, seed {item.plan['seed']}" for item in compared]
    arms = (("trained", "tab:blue"), ("shuffled", "tab:gray"), ("oracle", "tab:green"))
    for offset, (arm, colour) in zip((-0.25, 0.0, 0.25), arms, strict=True):
        known = [
            (place, report)
            for place, item in enumerate(compared)
            if (report := item.arms.get(arm)) is not None and report["lift"] is not None
        ]
        middle = [100 * report["lift"] for _, report in known]
        spans = [[abs(100 * report["lift_ci95"][end] - at) for at, (_, report) in zip(middle, known, strict=True)]
                 for end in (0, 1)]  # fmt: skip
        places = [place + offset for place, _ in known]
        lifts.errorbar(middle, places, xerr=spans, fmt="o", color=colour, capsize=3, label=arm)
    lifts.axvline(0, color="black", linewidth=0.6)
    lifts.set(yticks=range(len(labels)), yticklabels=labels, xlabel="lift in true engagement on held-out topics, %")
    lifts.set_ylim(len(labels) - 0.5, -0.5)
    lifts.grid(axis="x", alpha=0.3)
    lifts.legend()
    _plot_traits(traits, compared, labels)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _plot_traits(axis: Any, compared: Sequence[Comparison], labels: Sequence[str]) -> None:
    moved = []
    for item in compared:
        report = item.arms.get("trained")
        ends = [_ends(report, trait) if report else None for trait in ALL_SHOWN]
        moved.append([nan if pair is None else pair[1] - pair[0] for pair in ends])
    image = axis.imshow(moved, cmap="RdBu_r", vmin=-0.4, vmax=0.4, aspect="auto")
    axis.set(xticks=range(len(ALL_SHOWN)), yticks=range(len(labels)), yticklabels=labels)
    axis.set_xticklabels(ALL_SHOWN, rotation=30, ha="right")
    for row, values in enumerate(moved):
        for column, value in enumerate(values):
            axis.text(column, row, "?" if isnan(value) else f"{value:+.2f}", ha="center", va="center", fontsize=8)
    axis.set_title("how far the trained arm's drafts moved (?: not measured)", fontsize=10)
    axis.figure.colorbar(image, ax=axis, shrink=0.8)
