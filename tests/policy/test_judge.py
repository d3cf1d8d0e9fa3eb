"""Calibration, the bar, and who is selected with which chance."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.policy.judge import CONTENT_FREE, Judge, Scores, mean_log_odds, select, threshold
from app.policy.prompts import PromptBuilder
from app.policy.topics import Heard, choose_topic
from app.policy.wording import CRITERIA

ODDS = st.floats(-20, 20)


def test_content_free_posts_score_zero_on_average(model):
    judge = Judge(model, PromptBuilder(model.tokenizer, 2000), "base")
    scores = judge.judge(list(CONTENT_FREE))
    for criterion in CRITERIA:
        assert mean_log_odds([getattr(score, criterion) for score in scores]) == pytest.approx(0, abs=0.05)


def test_calibration_takes_the_same_from_every_post(model):
    prompts = PromptBuilder(model.tokenizer, 2000)
    texts = ["The council voted.", "lol", "trams and bridges"]
    judged = Judge(model, prompts, "base").judge(texts)
    raw = model.log_odds([prompts.judgement("newsworthy", text).token_ids for text in texts])
    gaps = [score.newsworthy - odds for score, odds in zip(judged, raw, strict=True)]
    assert gaps == pytest.approx([gaps[0]] * 3, abs=1e-3)


def test_versions_tell_weights_apart(model):
    prompts = PromptBuilder(model.tokenizer, 2000)
    versions = {Judge(model, prompts, name).version for name in ("base", "0123456789")}
    assert len(versions) == 2
    assert all(model.base_hash[:8] in version for version in versions)


def test_the_score_is_the_mean():
    assert Scores(newsworthy=3.0, substantive=-1.0).score == 1.0


@given(st.lists(ODDS, min_size=1, max_size=5))
def test_mean_log_odds_is_that_of_the_mean_probability(odds):
    mean = sum(1 / (1 + math.exp(-each)) for each in odds) / len(odds)
    assert 1 / (1 + math.exp(-mean_log_odds(odds))) == pytest.approx(mean, rel=1e-6)


@given(st.lists(ODDS, min_size=5, max_size=200, unique=True), st.floats(0.05, 1))
def test_about_the_share_lies_above_the_bar(scores, share):
    above = sum(score > threshold(scores, share) for score in scores)
    assert abs(above - share * len(scores)) <= 1


def test_no_bar_can_be_told_from_a_handful():
    assert threshold([1.0, 2.0], 0.2) == math.inf
    assert threshold([], 1.0) == -math.inf


@given(ODDS, ODDS, st.floats(0, 0.5), st.floats(0, 1, exclude_max=True))
def test_the_logged_chance_is_the_true_one(score, limit, exploration, roll):
    selection = select(score, limit, exploration=exploration, roll=roll)
    certain = score > limit
    assert selection.chance == (1.0 if certain else exploration)
    assert selection.selected == (certain or roll < exploration)
    assert selection.by == ("score" if certain else "exploration" if selection.selected else "none")


TALK = [Heard(str(author), None, f"The {word} is late again") for word in ("tram", "ferry") for author in range(4)]
TALK += [Heard("9", "zoe", "heron heron heron"), Heard("9", "zoe", "another heron"), Heard("9", "zoe", "and a heron")]


def test_topics_come_from_interests_and_from_what_several_members_say():
    chooser = random.Random(1)
    chosen = [choose_topic(["bridges", "trams"], TALK, avoid=[], chooser=chooser) for _ in range(600)]
    topics = {topic.text: topic.chance for topic in chosen}
    assert set(topics) == {"bridges", "trams", "tram", "late", "ferry"}
    assert "heron" not in topics, "one voice, however often, is not the community"
    assert sum(topics.values()) == pytest.approx(1)
    for text, chance in topics.items():
        share = sum(topic.text == text for topic in chosen) / len(chosen)
        assert share == pytest.approx(chance, abs=0.08)
    ferry = next(topic for topic in chosen if topic.text == "ferry")
    assert ferry.talk == TALK[5:8]


def test_last_topics_are_left_out_while_others_remain():
    chooser = random.Random(1)
    assert {choose_topic(["a1", "b2"], [], avoid=["a1"], chooser=chooser).text for _ in range(30)} == {"b2"}
    assert choose_topic(["a1"], [], avoid=["a1"], chooser=chooser).text == "a1"
    assert choose_topic(["a1", "b2"], [], avoid=["a1"], chooser=chooser).chance == 1
