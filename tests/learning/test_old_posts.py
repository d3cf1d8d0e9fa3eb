"""Whole turns on posts that a checkpoint three reloads old wrote: learning from them improves, or stops by its rule."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from app.learning.trainer import run_ppo
from dbs.models import Draft
from dbs.states import RunState
from tests.learning.life import current, live, true_value, with_ppo
from tests.learning.world import World


def hide(world: World, drafts: list, *, hidden: bool) -> None:
    """Keep drafts out of every run, as those are whose posts have not matured yet; or let them in."""
    with world.database.transaction() as session:
        session.execute(update(Draft).where(Draft.draft_id.in_(drafts)).values(edited=hidden))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("seed", "rate"), [(1, 2e-3), (2, 2e-3), (3, 5e-3), (4, 1e-2)])
def test_posts_three_reloads_old_improve_the_bot_or_are_left_alone(world, settings, seed, rate):
    """At the rate that the tests learn at, and at rates at which the policy soon leaves what wrote the posts."""
    eager = with_ppo(settings, learning_rate=rate)
    old = live(world, settings, 120, seed=1000 * seed)
    hide(world, old, hidden=True)
    promoted = 0
    for turn in range(8):  # the gate may refuse one now and then
        live(world, settings, 90, seed=1000 * seed + turn + 1)
        promoted += run_ppo(eager, world.database).promoted
        if promoted == 3:
            break
    assert promoted == 3
    before = current(world)
    value = true_value(settings, world, before)
    hide(world, old, hidden=False)
    outcome = run_ppo(eager, world.database)
    after = true_value(settings, world, current(world))
    print(seed, rate, promoted, true_value(settings, world, world.base_id), value, after, outcome)
    if outcome.state == RunState.STOPPED:
        assert "effective sample size" in outcome.reason or "nats" in outcome.reason
        assert current(world) == before
    else:
        assert outcome.state == RunState.SUCCEEDED
    assert after > 0.9 * value
