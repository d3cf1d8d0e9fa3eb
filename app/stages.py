"""Which stage a loop's turn runs, and which loop it wakes: one table for the tasks of the queue and for a backtest.

Learning is not in it: on the queue its turn only starts runs, each in a process of its own (`app/tasks/training.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from app import persona
from app.community import load_community
from app.context import BotContext
from app.data.vanished import forget_vanished
from app.measuring import measure_due
from app.posting import queue_drafts
from app.reading import read_mentions, read_timeline
from app.reconciliation import reconcile
from app.schedule import LoopName
from app.sighting import find_awaited

# Does what is due and returns how many things it did.
Stage = Callable[[BotContext], int]

MEMBERS_SUMMARISED = 16  # per turn


def _answer(bot: BotContext) -> int:
    bot.author.judge_seen()
    return len(bot.author.draft_selected())


def _look_at_own_timeline(bot: BotContext) -> int:
    return reconcile(bot.db, bot.x, bot.config) + find_awaited(bot.db, bot.x, bot.config)


def _revise_persona(bot: BotContext) -> int:
    with bot.db.transaction() as session:
        return int(persona.revise(session, bot.config) is not None)


STAGES: Mapping[LoopName, Stage] = {
    LoopName.COMMUNITY: lambda bot: load_community(bot.db, bot.x, bot.config),
    LoopName.TIMELINE: lambda bot: read_timeline(bot.db, bot.x, bot.config),
    LoopName.MENTIONS: lambda bot: read_mentions(bot.db, bot.x, bot.config),
    LoopName.GENERATION: _answer,
    LoopName.OWN_POSTS: lambda bot: int(bot.author.draft_own_post() is not None),
    LoopName.SUMMARIES: lambda bot: bot.author.summarise_members(limit=MEMBERS_SUMMARISED),
    LoopName.PUBLISHING: lambda bot: queue_drafts(bot.db, bot.config),
    LoopName.RECONCILIATION: _look_at_own_timeline,
    LoopName.ENGAGEMENT: lambda bot: measure_due(bot.db, bot.x, bot.config),
    LoopName.PERSONA: _revise_persona,
    LoopName.FORGETTING: lambda bot: forget_vanished(bot.db, bot.x, bot.config),
}

# A turn that did something has the next loop take a turn at once, due or not.
WAKES: Mapping[LoopName, LoopName] = {
    LoopName.TIMELINE: LoopName.GENERATION,
    LoopName.MENTIONS: LoopName.GENERATION,
    LoopName.GENERATION: LoopName.PUBLISHING,
    LoopName.OWN_POSTS: LoopName.PUBLISHING,
}
