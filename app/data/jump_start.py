"""The jump start, the seed's two functions: gather posts, and train the reference on them.

Both take a VibeBot and go on where they were stopped, in whatever way. Processes that only have a context call what
stands behind them: `app/data/gathering.py` and `train` here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from app.context import BotContext
from app.data import manifest
from app.data.clearing import settle
from app.data.estimate import Estimate
from app.data.gathering import Gathered, Progress, gather
from app.data.optin import require_opt_in
from app.loading import ConfigError
from dbs.models import DataSet

if TYPE_CHECKING:
    from app.learning.sft import SFTOutcome
    from app.vibebot import VibeBot

TrainingProgress = Callable[[int, int, dict[str, float]], None]


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


def jump_start_training(vibe_bot: VibeBot, *, report: TrainingProgress | None = None) -> SFTOutcome:
    """Train the LoRA adapter that becomes the frozen reference and the first current checkpoint.

    https://huggingface.co/docs/peft/main/en/developer_guides/lora
    """
    return train(vibe_bot.context, report=report)


def train(bot: BotContext, *, report: TrainingProgress | None = None) -> SFTOutcome:
    """`jump_start_training` for a process that has no VibeBot, because it has no keys to X.

    Raises:
        OptInMissingError: the posts are from live X, and `sft.train_on_live_x` is not set.
        ConfigError: there is no data set, or nothing in it, or the store that machines share lacks some of it.
    """
    from app.learning.sft import run_sft  # torch, for whoever trains

    require_opt_in(bot.config, bot.secrets)
    with bot.db.transaction() as session:
        row = manifest.find(session, bot.config.bot_id)
        if row is None or not row.posts:
            raise ConfigError("there is no data set to train on; `explorer data-set` gathers one")
        entries = manifest.entries_of(row)

    def bring() -> None:
        with bot.db.transaction() as session:
            row = session.get_one(DataSet, bot.config.bot_id, with_for_update=True)
            manifest.working_copy(bot.config, row).bring(manifest.entries_of(row))

    outcome = run_sft(bot.config, bot.db, manifest.directory(bot.config), entries, report, bring=bring)
    settle(bot.db, bot.config)
    return outcome
