"""What was learnt, checkpoint by checkpoint, as a table and as a picture. Light: who shows it needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def plot(curve: Sequence[dict[str, Any]], file: Path) -> None:
    """True engagement by checkpoint with its band, beside KL to the reference, length and safety, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(15, 3.6), constrained_layout=True)
    steps = range(len(curve))
    axes[0].fill_between(steps, [p["low"] for p in curve], [p["high"] for p in curve], alpha=0.2)
    axes[0].plot(steps, [p["engagement"] for p in curve], marker="o")
    axes[0].set(title="true expected engagement", ylabel="weighted events in 24 h", ylim=(0, None))
    axes[1].plot(steps, [p["kl"] or 0.0 for p in curve], marker="o", color="tab:orange")
    axes[1].set(title="KL to the reference", ylabel="nats per post", ylim=(0, None))
    axes[2].plot(steps, [p["words"] for p in curve], marker="o", color="tab:green")
    axes[2].set(title="length", ylabel="words", ylim=(0, None))
    axes[3].plot(steps, [p["refused"] for p in curve], marker="o", color="tab:red", label="refused by the rules")
    axes[3].plot(steps, [p["hostile"] for p in curve], marker="o", color="tab:purple", label="hostile, of the rest")
    axes[3].set(title="safety", ylabel="share of drafts", ylim=(0, 1))
    axes[3].legend()
    for axis in axes:
        axis.set(xlabel="checkpoint", xticks=list(steps))
        axis.grid(alpha=0.3)
    figure.suptitle("Held-out topics; the band is 95 % over prompts")
    figure.savefig(file, dpi=130)
    pyplot.close(figure)


def show_curve(console: Console, curve: Sequence[dict[str, Any]]) -> None:
    """True engagement by checkpoint as bars, with its interval, KL, length and safety."""
    longest = max(point["high"] for point in curve) or 1.0
    columns = ("checkpoint", "true engagement (95 %)", "", "KL", "words", "refused", "hostile")
    table = Table(*columns, title="What it learnt")
    for point in curve:
        bar = "█" * round(30 * point["engagement"] / longest)
        span = f"{point['engagement']:.2f} ({point['low']:.2f} to {point['high']:.2f})"
        kl = "" if point["kl"] is None else f"{point['kl']:.2f}"
        name = f"{point['kind']} {point['checkpoint_id'][:8]}"
        safety = f"{point['refused']:.0%}", f"{point['hostile']:.0%}"
        table.add_row(name, span, bar, kl, f"{point['words']:.0f}", *safety)
    console.print(table)
