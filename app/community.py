"""The community: the configured handles found at X, followed, and their profiles kept fresh."""

from __future__ import annotations

import structlog
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app import clock, forgotten
from app.config import VibeBotConfig
from app.connectors.community_db import CommunityDB
from app.loops import PutOff
from app.x.capabilities import Ability, Capabilities
from app.x.errors import NotAllowed, Permanent, Retryable
from app.x.types import XUser
from app.x_interactor import XInteractor
from dbs.models import Bot, Membership, SeedHandle
from dbs.session import Database
from dbs.states import FollowState, HandleState

log = structlog.get_logger()


def load_community(db: Database, x: XInteractor, config: VibeBotConfig) -> int:
    """Resolve the handles that are not resolved yet, follow those users, and refresh known profiles.

    Every step is recorded as it succeeds and may be run again: what is done is not done twice.

    Returns:
        The number of users followed by this call.

    Raises:
        PutOff: X's window or our budget is empty; the rest is done at the next turn.
    """
    try:
        _learn_own_handle(db, x, config)
        _resolve(db, x, config)
        followed = _follow(db, x, config)
        _refresh(db, x, config)
    except Retryable as error:
        raise PutOff(error.retry_at, str(error)) from error
    return followed


def is_loaded(session: Session, config: VibeBotConfig) -> bool:
    """Whether every configured handle has been looked up."""
    checked = session.scalars(
        select(SeedHandle.handle).where(SeedHandle.bot_id == config.bot_id, SeedHandle.state != HandleState.PENDING)
    )
    return {handle.lower() for handle in config.accounts_to_follow} <= {handle.lower() for handle in checked}


def _learn_own_handle(db: Database, x: XInteractor, config: VibeBotConfig) -> None:
    with db.transaction() as session:
        known = session.get_one(Bot, config.bot_id).handle
    if known is None:
        me = x.me()
        with db.transaction() as session:
            session.get_one(Bot, config.bot_id).handle = me.handle


def _resolve(db: Database, x: XInteractor, config: VibeBotConfig) -> None:
    with db.transaction() as session:
        rows = [
            {"bot_id": config.bot_id, "handle": handle, "state": HandleState.PENDING}
            for handle in config.accounts_to_follow
        ]
        session.execute(insert(SeedHandle).values(rows).on_conflict_do_nothing())
        pending = session.scalars(
            select(SeedHandle.handle).where(
                SeedHandle.bot_id == config.bot_id,
                SeedHandle.state != HandleState.RESOLVED,
                SeedHandle.handle.in_(config.accounts_to_follow),
            )
        ).all()
    if not pending:
        return
    found, missing = x.resolve_handles(list(pending))
    with db.transaction() as session:
        _record_resolved(session, config, found, missing)


def _record_resolved(session: Session, config: VibeBotConfig, found: dict[str, XUser], missing: dict[str, str]) -> None:
    community = CommunityDB(session, config.bot_id)
    gone = forgotten.among(session, config.bot_id, {user.user_id for user in found.values()})
    known = {handle: user for handle, user in found.items() if user.user_id not in gone}
    community.upsert(list(known.values()))
    for user in known.values():
        community.join(user.user_id, FollowState.WANTED)
    by_handle = {handle.lower(): user for handle, user in found.items()}
    for row in session.scalars(select(SeedHandle).where(SeedHandle.bot_id == config.bot_id)):
        resolved = by_handle.get(row.handle.lower())
        if resolved is not None:
            row.state, row.user_id, row.reason, row.checked_at = (
                HandleState.RESOLVED,
                None if resolved.user_id in gone else resolved.user_id,
                "forgotten" if resolved.user_id in gone else None,
                clock.now(),
            )
        elif row.handle in missing:
            row.state, row.reason, row.checked_at = HandleState.NOT_FOUND, missing[row.handle], clock.now()
            log.warning("handle.not_found", handle=row.handle, reason=row.reason)


def _follow(db: Database, x: XInteractor, config: VibeBotConfig) -> int:
    with db.transaction() as session:
        wanted = session.scalars(
            select(Membership.user_id).where(
                Membership.bot_id == config.bot_id, Membership.follow_state == FollowState.WANTED
            )
        ).all()
    verdict = Capabilities(db, config.bot_id, config.budget.tier).allows(Ability.FOLLOW)
    if not verdict.granted:
        # They stay wanted, and are followed when the account may; until then they are read one by one.
        log.info("follow.not_allowed", reason=verdict.reason)
        return 0
    followed = 0
    for user_id in wanted:
        try:
            state = x.follow(user_id)
        except NotAllowed as error:
            # It would be refused for everybody.
            Capabilities(db, config.bot_id, config.budget.tier).learn(Ability.FOLLOW, error)
            return followed
        except Permanent as error:
            _set_follow(db, config, [user_id], FollowState.UNAVAILABLE, str(error))
            continue
        _set_follow(db, config, [user_id], FollowState(state), None)
        followed += state == FollowState.FOLLOWING
    return followed


def _set_follow(
    db: Database, config: VibeBotConfig, user_ids: list[str], state: FollowState, reason: str | None
) -> None:
    with db.transaction() as session:
        for user_id in user_ids:
            row = session.get_one(Membership, (config.bot_id, user_id))
            row.follow_state, row.follow_reason = state, reason
            if state is FollowState.FOLLOWING:
                row.followed_at = clock.now()


def _refresh(db: Database, x: XInteractor, config: VibeBotConfig) -> None:
    """Refresh the profiles not fetched since the last turn of this loop."""
    with db.transaction() as session:
        stale = CommunityDB(session, config.bot_id).stale(config.loop.community_interval)
    if not stale:
        return
    found = x.get_users(stale)
    with db.transaction() as session:
        CommunityDB(session, config.bot_id).upsert(list(found.values()))
