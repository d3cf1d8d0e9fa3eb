"""A bot with members, and an X that says what was planted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from scripted_x import ScriptedX
from timelines import Plant, Timelines, give_members

from app.config import VibeBotConfig
from app.context import BotContext
from dbs.session import Database


@pytest.fixture
def plant(x: ScriptedX, database: Database, config: VibeBotConfig) -> Plant:
    """Makes an X of these members, and a bot that follows them and reads small files."""

    def make(planted: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[BotContext, Timelines]:
        timelines = Timelines(x, planted)
        sft = config.sft.model_copy(update={"file_bytes": 2_000, "max_cost": 1_000.0})
        budget = config.budget.model_copy(update={"max_usd_per_day": 1_000.0, "max_usd_per_month": 1_000.0})
        mine = config.model_copy(update={"sft": sft, "budget": budget})
        context = BotContext(mine, secrets=timelines.secrets, db=database)
        give_members(context, list(planted))
        return context, timelines

    return make
