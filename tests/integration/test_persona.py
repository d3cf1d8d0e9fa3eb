"""Persona versions: from the config, by a person, and adaptive within bounds."""

from __future__ import annotations

import pytest

from app import persona
from app.config import PersonaConfig, VibeBotConfig
from app.persona import Evidence, Origin, bounded, weigh
from dbs.models import Bot
from dbs.session import Database
from dbs.states import PersonaState


def test_the_config_is_version_one_and_stays(database: Database, bot: Bot, config: VibeBotConfig) -> None:
    for _ in range(2):
        with database.transaction() as session:
            assert persona.ensure(session, config).version == 1


def test_a_changed_config_is_a_new_version(database: Database, bot: Bot, config: VibeBotConfig) -> None:
    with database.transaction() as session:
        persona.ensure(session, config)
    changed = config.model_copy(update={"persona": config.persona.model_copy(update={"tone": "dry"})})
    with database.transaction() as session:
        row = persona.ensure(session, changed)
        assert (row.version, row.parent_version, row.tone) == (2, 1, "dry")


def test_a_persons_version_survives_a_restart(database: Database, bot: Bot, config: VibeBotConfig) -> None:
    with database.transaction() as session:
        persona.ensure(session, config)
        persona.set_current(session, "explorer", config.persona.model_copy(update={"tone": "sharp"}), Origin.PERSON)
    with database.transaction() as session:
        assert persona.ensure(session, config).tone == "sharp"


def test_a_refused_version_goes_back_to_its_parent(database: Database, bot: Bot, config: VibeBotConfig) -> None:
    with database.transaction() as session:
        persona.ensure(session, config)
        persona.set_current(session, "explorer", config.persona.model_copy(update={"tone": "loud"}), Origin.ADAPTIVE)
        assert persona.refuse(session, "explorer", 2).version == 1
    with database.transaction() as session:
        assert persona.current(session, "explorer").version == 1
        with pytest.raises(LookupError, match="the first"):
            persona.refuse(session, "explorer", 1)
        with pytest.raises(LookupError, match="no persona version 9"):
            persona.refuse(session, "explorer", 9)


PERSONA = PersonaConfig(name="E", description="d", tone="plain", interests=["astronomy"], adaptive=True)


def test_the_best_habit_and_topics_are_added_and_nothing_is_taken_away() -> None:
    rows = [(f"Is it so? Number {i}", "comets", 1.0) for i in range(20)]
    rows += [(f"It is so, friend, and will be, sample {'x' * i}", "Astronomy", -1.0) for i in range(20)]
    revised = bounded(PERSONA, weigh(rows))
    assert revised.tone.startswith("plain; lately it ")
    assert revised.interests == ["astronomy", "comets"]
    assert revised.description == PERSONA.description


def test_nothing_gained_changes_nothing() -> None:
    assert bounded(PERSONA, Evidence(drafts=40, tone_gain={"asks questions": -0.1}, topic_gain={})) == PERSONA


def test_a_refused_revision_is_not_repeated(database: Database, bot: Bot, config: VibeBotConfig) -> None:
    with database.transaction() as session:
        persona.ensure(session, config)
        row = persona.set_current(
            session, "explorer", config.persona.model_copy(update={"tone": "loud"}), Origin.ADAPTIVE
        )
        persona.refuse(session, "explorer", row.version)
        assert row.state == PersonaState.REFUSED
        assert persona._was_refused(session, "explorer", config.persona.model_copy(update={"tone": "loud"}))
