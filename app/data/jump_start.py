"""The jump start, as the seed calls it. Who has no VibeBot calls what stands behind it, `gathering.gather`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from app.data.estimate import Estimate
from app.data.gathering import Gathered, Progress, gather

if TYPE_CHECKING:
    from app.vibebot import VibeBot


def generate_jump_start_dataset(
    vibe_bot: VibeBot,
    *,
    agree: Callable[[Estimate], bool] | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Gathered:
    """Gather posts of the accounts that the bot follows into `0.json`, `1.json` …, each closed at `sft.file_bytes`.

    The files lie in `<data_dir>/jump_start_files/<bot_id>/`; `app/data/gathering.py` says when it ends and what it
    raises.

    Args:
        agree: asked once, with what it will cost at most; without it nothing that costs money is begun.
        report: told after every page.
    """
    return gather(vibe_bot.context, agree=agree, report=report)
