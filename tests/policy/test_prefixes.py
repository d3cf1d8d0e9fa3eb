"""Prompts that begin alike are found together, whatever else is in the call."""

from __future__ import annotations

import doctest
import random

from hypothesis import given
from hypothesis import strategies as st

from app.policy import prefixes
from app.policy.prefixes import MIN_SHARED, alike, common_prefix

token = st.integers(0, 3)
prompts = st.lists(st.lists(token, min_size=1, max_size=60), max_size=12)


def test_worked_example() -> None:
    assert doctest.testmod(prefixes).failed == 0


@given(prompts)
def test_every_prompt_is_in_one_group(found: list[list[int]]) -> None:
    assert sorted(i for group in alike(found) for i in group) == list(range(len(found)))


@given(prompts)
def test_a_group_of_its_own_begins_alike_for_longer(found: list[list[int]]) -> None:
    groups = [group for group in alike(found) if len(group) > 1]
    if len(groups) > 1:
        whole = common_prefix(found)
        assert max(common_prefix([found[i] for i in group]) for group in groups) >= whole + MIN_SHARED


def test_a_few_posts_of_ones_own_do_not_spoil_the_replies() -> None:
    draw = random.Random(1)
    persona = [draw.randrange(1000) for _ in range(71)]
    opening = {
        kind: [*persona, *(draw.randrange(1000) for _ in range(n))] for kind, n in (("reply", 271), ("post", 120))
    }
    kinds = ["reply"] * 40 + ["post"] * 5
    draw.shuffle(kinds)
    found = [[*opening[kind], *(draw.randrange(1000) for _ in range(50))] for kind in kinds]
    groups = alike(found)
    assert [{kinds[i] for i in group} for group in groups] == [{"reply"}, {"post"}]


def test_nor_do_others_that_part_from_them_a_token_later() -> None:
    """A post of one's own begins otherwise; a long post's prompt, which lacks the first example, one token later."""
    own, shorter, reply = [1] * 71 + [2] * 120, [1] * 71 + [3, 4] + [5] * 200, [1] * 71 + [3, 6] + [7] * 270
    openings = [own] * 2 + [shorter] * 6 + [reply] * 96
    found = [[*opening, 8, number] for number, opening in enumerate(openings)]
    groups = [{len(found[i]) for i in group} for group in alike(found)]
    assert groups == [{345}, {275}, {193}]
