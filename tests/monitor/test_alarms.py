"""Each alarm is raised by what it is for, and a healthy bot raises none."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from healthy_bot import HEALTHY

from app.config import VibeBotConfig
from app.monitor.alarms import CHECKS, alarms
from app.monitor.backlog import Backlog
from app.monitor.observation import LoopSeen


def test_a_healthy_bot_raises_none(config: VibeBotConfig) -> None:
    assert alarms(HEALTHY, config) == []


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("stopped", {"stopped": "the account is suspended"}, "the account is suspended"),
    ("stuck", {"loops": [LoopSeen("ppo", paused=False, turns=1, late=1800, error=None)]}, r"ppo \(30 min\)"),
    ("failing", {"loops": [LoopSeen("ppo", paused=False, turns=1, late=0, error="OSError: full")]}, "ppo: OSError"),
    ("unsent", {"backlog": {"send": Backlog("publishing", 1, 1200.0)}}, "20 min ago"),
    ("lost", {"lost": 2}, r"2 post\(s\)"),
    ("money", {"spent_day": 4.6}, r"\$4\.60 of \$5 spent in 24 hours"),
    ("money", {"spent_month": 100.0}, r"\$100\.00 of \$100 spent in 30 days"),
    ("requests", {"requests": {("GET /2/tweets", "ServerError"): 6, ("GET /2/tweets", "ok"): 6}}, "6 of 12"),
    ("capability", {"barred": {"quote": "not on this tier"}}, "quote: not on this tier"),
    ("gate", {"refusals": 3}, "last 3 candidates"),
    ("training", {"failures": 2}, "last 2 training runs"),
    ("broker", {"queues": None}, "cannot be reached"),
    ("broker", {"queues": {"timeline": 501}}, r"timeline \(501\)"),
]


@pytest.mark.parametrize(("name", "changes", "text"), CASES)
def test_each_is_raised_by_what_it_is_for(config: VibeBotConfig, name: str, changes: dict[str, Any], text: str) -> None:
    (alarm,) = alarms(replace(HEALTHY, **changes), config)
    assert alarm.name == name
    assert re.search(text, alarm.text)


def test_every_alarm_is_tested() -> None:
    assert {name for name, _, _ in CASES} == {name for name, _ in CHECKS}


def test_a_paused_loop_is_not_stuck_and_few_requests_say_nothing(config: VibeBotConfig) -> None:
    paused = LoopSeen("timeline", paused=True, turns=9, late=0.0, error=None)
    few = {("GET /2/tweets", "ServerError"): 9}
    assert alarms(replace(HEALTHY, loops=[paused], requests=few), config) == []


def test_nothing_spent_under_a_cap_of_nothing_is_no_alarm(config: VibeBotConfig) -> None:
    free = config.model_copy(update={"budget": config.budget.model_copy(update={"max_usd_per_day": 0.0})})
    assert alarms(replace(HEALTHY, spent_day=0.0), free) == []
