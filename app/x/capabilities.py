"""What the account may do: by its access tier, known up front, and by what X has answered.

Since February 2026 self-serve accounts may reply only where they were summoned, since April 2026 they may neither
quote nor follow: https://docs.x.com/changelog.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy.dialects.postgresql import insert

from app import clock, events
from app.x.errors import AccountTrouble, NotAllowed, XError
from dbs.models import Capability
from dbs.session import Database


class Ability(StrEnum):
    """What X may or may not let an account do."""

    POST = "post"
    REPLY = "reply"  # to who summoned the bot, and in its own threads
    REPLY_UNSUMMONED = "reply_unsummoned"
    QUOTE = "quote"
    FOLLOW = "follow"


ACCOUNT = "account"  # the row of trouble that stops everything
SELF_SERVE = {"pay-per-use", "basic", "pro"}
TAKEN_FROM_SELF_SERVE = {Ability.REPLY_UNSUMMONED, Ability.QUOTE, Ability.FOLLOW}
# A refusal stands for a day, trouble with the account for an hour: then one attempt finds out whether it is over.
TRY_REFUSED_AGAIN = timedelta(days=1)
TRY_ACCOUNT_AGAIN = timedelta(hours=1)


@dataclass(frozen=True)
class Verdict:
    """Whether something may be tried, why not, who says so (tier or response), and when to ask again."""

    granted: bool
    reason: str | None
    source: str
    retry_at: datetime | None


class Capabilities:
    """What one bot's account may do. Reads and writes the table `capabilities`."""

    def __init__(self, db: Database, bot_id: str, tier: str) -> None:
        self._db = db
        self._bot_id = bot_id
        self._tier = tier

    def allows(self, capability: str) -> Verdict:
        """Whether a capability may be used now.

        Args:
            capability: post, reply, reply_unsummoned, quote or follow.

        Raises:
            ValueError: there is no such capability.
        """
        ability = Ability(capability)
        by_tier = self._by_tier(ability)
        if not by_tier.granted:
            return by_tier
        with self._db.transaction() as session:
            for name in (ACCOUNT, ability.value):
                lost = session.get(Capability, (self._bot_id, name))
                if lost is not None and not lost.granted and (lost.retry_at is None or lost.retry_at > clock.now()):
                    return Verdict(False, lost.reason, lost.source, lost.retry_at)
        return by_tier

    def learn(self, capability: str, error: XError) -> Verdict | None:
        """Remember that X refused. Errors that say nothing about what the account may do teach nothing.

        Returns:
            The verdict that stands from now on, None if nothing was learnt.
        """
        ability = Ability(capability)
        if isinstance(error, AccountTrouble):
            name, retry_at = ACCOUNT, clock.now() + TRY_ACCOUNT_AGAIN
        elif isinstance(error, NotAllowed):
            name, retry_at = ability.value, clock.now() + TRY_REFUSED_AGAIN
        else:
            return None
        verdict = Verdict(False, str(error), "response", retry_at)
        self._store(name, verdict, {"error": type(error).__name__, "problem": error.problem, "used_for": ability.value})
        return verdict

    def confirm(self, capability: str) -> None:
        """Remember that X did what was asked, which ends a refusal that stood before."""
        for name in (ACCOUNT, Ability(capability).value):
            self._store(name, Verdict(True, None, "response", None), {})

    def mend(self) -> None:
        """Remember that a person has acted: what the account's trouble stopped is tried again at once."""
        self._store(ACCOUNT, Verdict(True, None, "response", None), {})

    def declare(self) -> None:
        """Write down what the tier grants and does not, for those who read the table and know no tiers."""
        now = clock.now()
        for ability in Ability:
            verdict = self._by_tier(ability)
            values = {
                "granted": verdict.granted,
                "source": verdict.source,
                "reason": verdict.reason,
                "retry_at": None,
                "updated_at": now,
            }
            row = insert(Capability).values(bot_id=self._bot_id, capability=ability.value, **values)
            with self._db.transaction() as session:
                session.execute(
                    row.on_conflict_do_update(
                        index_elements=[Capability.bot_id, Capability.capability],
                        set_=values,
                        # What X answered is the later word, unless the tier rules it out altogether.
                        where=(Capability.source == verdict.source) if verdict.granted else None,
                    )
                )

    def _by_tier(self, ability: Ability) -> Verdict:
        if self._tier in SELF_SERVE and ability in TAKEN_FROM_SELF_SERVE:
            return Verdict(False, f"X's {self._tier} tier has no {ability.value}; enterprise has", "tier", None)
        return Verdict(True, None, "tier", None)

    def _store(self, name: str, verdict: Verdict, detail: dict[str, str | None]) -> None:
        now = clock.now()
        with self._db.transaction() as session:
            known = session.get(Capability, (self._bot_id, name), with_for_update=True)
            if verdict.granted and (known is None or known.granted):
                return
            values = {
                "granted": verdict.granted,
                "source": verdict.source,
                "reason": verdict.reason,
                "retry_at": verdict.retry_at,
                "updated_at": now,
            }
            session.execute(
                insert(Capability)
                .values(bot_id=self._bot_id, capability=name, **values)
                .on_conflict_do_update(index_elements=[Capability.bot_id, Capability.capability], set_=values)
            )
            # Said once: not at every attempt that finds it still refused.
            if known is None or known.granted != verdict.granted:
                kind = "capability.regained" if verdict.granted else "capability.lost"
                events.record(session, self._bot_id, kind, name, reason=verdict.reason, **detail)
