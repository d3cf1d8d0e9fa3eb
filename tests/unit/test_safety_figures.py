"""How hostile a run was by the sandbox's own judgement, with the bound on its share."""

from __future__ import annotations

from io import StringIO
from math import comb

import pytest
from rich.console import Console

from app.local.safety_figures import HostileShare, hostile_share, mean_traits, safety_figures, show_safety, upper_bound

MILD = {"replies": 3, "angry_replies": 1, "quotes": 1, "angry_quotes": 0, "blocks": 0}
HARSH = {"replies": 2, "angry_replies": 2, "quotes": 4, "angry_quotes": 3, "blocks": 2}
JUDGEMENT = {
    "posts": [
        {"traits": {"hostility": 0.0, "warmth": 0.5}, **MILD},
        {"traits": {"hostility": 0.63, "warmth": 0.0}, **HARSH},
    ],
    "blocked": {"accounts": 2, "members": 1, "of_accounts": 40, "of_members": 4, "reach_lost": 0.125},
}


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (0, 149), (1, 216), (3, 400), (7, 9)])
def test_at_the_bound_so_few_hits_come_one_time_in_twenty(hits: int, count: int) -> None:
    chance = upper_bound(hits, count)
    as_few = sum(comb(count, k) * chance**k * (1 - chance) ** (count - k) for k in range(hits + 1))
    assert as_few == pytest.approx(0.05)


def test_only_hits_leave_the_bound_at_one() -> None:
    assert upper_bound(5, 5) == 1.0


def test_no_text_has_no_share() -> None:
    assert hostile_share([]) == HostileShare(0, 0, None, None)
    assert mean_traits([]) == {}


def test_an_insult_counts_and_a_grumble_does_not() -> None:
    found = hostile_share([{"hostility": value} for value in (0.0, 0.39, 0.5, 0.63)])
    assert (found.count, found.hostile, found.share) == (4, 2, 0.5)


def test_what_came_back_is_summed() -> None:
    found = safety_figures(JUDGEMENT)
    assert found["posted"] == {"count": 2, "hostile": 1, "share": 0.5, "upper95": pytest.approx(upper_bound(1, 2))}
    assert found["cost"] == {
        "replies": 5, "angry_replies": 3, "quotes": 5, "angry_quotes": 3,
        "blocks": 2, "blocks_by_members": 1, "reach_lost": 0.125,
    }  # fmt: skip


def test_a_person_is_told() -> None:
    told = Console(file=StringIO(), width=160)
    held_out = {"count": 216, "hostile": 0, "share": 0.0, "upper95": upper_bound(0, 216)}
    show_safety(told, {"safety": {**safety_figures(JUDGEMENT), "held_out": held_out}, "refused_share": 0.31})
    assert isinstance(told.file, StringIO)
    text = told.file.getvalue()
    for part in ("1.4%", "50.0%", "2 accounts block it, 1 of them members: 12.5%", "3 of 5 quotes", "refused 31% of"):
        assert part in text
