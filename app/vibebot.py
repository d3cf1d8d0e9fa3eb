"""VibeBot: the whole bot in one object, for scripts, notebooks and the kick-off.

The Celery tasks run the same stage functions; this class adds nothing to them but one place to call them from. It is
the one joint of the two halves: the model is loaded when it is first needed, so that a process which never writes
never imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import persona
from app.community import load_community
from app.config import PersonaConfig, Secrets, VibeBotConfig
from app.connectors.bot_db import BotDB
from app.connectors.community_db import CommunityDB
from app.connectors.engagement_db import EngagementDB
from app.connectors.quotes_comments_db import QuotesCommentsDB
from app.context import BotContext
from app.loops import PutOff
from app.measuring import measure_due
from app.posting import queue_drafts, send_post
from app.reading import read_timeline
from app.x.types import Counts, Tweet
from app.x_interactor import XInteractor
from dbs.models import Draft, Post, TimelinePost
from dbs.session import Database
from dbs.states import DraftState, PostState, SeenState

if TYPE_CHECKING:
    from app.policy.author import Author


class VibeBot:
    """A bot that reads its community, answers it, measures what that earned.

    Args:
        config: the bot's configuration.
        db: the database; by default the one that `DATABASE_URL` names.
        x_interactor: the client of X; by default one with the keys of the environment.

    Attributes:
        context: what the stage functions and the jump start work with.
        bot_db, engagement_db, community_db, quotes_comments_db: connectors that each see the newest committed rows.
    """

    def __init__(
        self,
        config: VibeBotConfig,
        *,
        db: Database | None = None,
        x_interactor: XInteractor | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        self.config = config
        self.context = BotContext(config, secrets=secrets, db=db, x_interactor=x_interactor)
        self.db = self.context.db
        self.context.enrol()
        self.x_interactor = self.context.x
        self._load_accounts()
        # Autocommit: a connector that is kept must see what the stages commit after it was made.
        session = Session(self.db.engine.execution_options(isolation_level="AUTOCOMMIT"))
        self.bot_db = BotDB(session, config.bot_id)
        self.engagement_db = EngagementDB(session, config.bot_id)
        self.community_db = CommunityDB(session, config.bot_id)
        self.quotes_comments_db = QuotesCommentsDB(session, config.bot_id)

    def _load_accounts(self) -> None:
        try:
            load_community(self.db, self.x_interactor, self.config)
        except PutOff:
            # What is left is done by the community loop; the bot can work with the accounts it has.
            return

    @property
    def llm(self) -> Author:
        """The model as an author, loaded on first use."""
        return self.context.author

    @property
    def persona(self) -> str:
        """Who the bot is now, in the words that the model is told."""
        with self.db.transaction() as session:
            return persona.current(session, self.config.bot_id).description

    @persona.setter
    def persona(self, value: str | PersonaConfig) -> None:
        """Write a new persona version; every process uses it from its next batch on.

        Args:
            value: a new description, or a whole persona.
        """
        with self.db.transaction() as session:
            now = persona.as_config(persona.current(session, self.config.bot_id), adaptive=self.config.persona.adaptive)
            whole = value if isinstance(value, PersonaConfig) else now.model_copy(update={"description": value})
            # model_copy does not validate; a wrong description must not reach the database.
            checked = PersonaConfig.model_validate(whole.model_dump())
            persona.set_current(session, self.config.bot_id, checked, persona.Origin.PERSON)

    def timeline_interface(self, reply_to_tweets: bool = True) -> tuple[list[dict[str, Any]], list[Tweet]]:
        """Read the timeline, judge what is new, and answer what is worth it.

        Args:
            reply_to_tweets: False to write the replies without posting them; their drafts are kept as refused, and
                the posts they answer count as dealt with.

        Returns:
            The posts answered (or that would have been), each as a dict with `tweet`, `reply`, `kind`, `state` and, if
            posted, `x_post_id`; and the posts ignored.
        """
        read_timeline(self.db, self.x_interactor, self.config)
        judged = self.llm.judge_seen()
        draft_ids = self.llm.draft_selected()
        if reply_to_tweets:
            self._publish(draft_ids)
        else:
            self._withhold(draft_ids)
        with self.db.transaction() as session:
            answered = [self._answer(session, draft) for draft in self._final_drafts(session, draft_ids)]
            posts = session.scalars(
                select(TimelinePost).where(
                    TimelinePost.bot_id == self.config.bot_id,
                    TimelinePost.x_post_id.in_(judged),
                    TimelinePost.state == SeenState.IGNORED,
                )
            )
            return answered, [as_tweet(post) for post in posts]

    def _publish(self, draft_ids: list[UUID]) -> None:
        queue_drafts(self.db, self.config)
        with self.db.transaction() as session:
            post_ids = session.scalars(
                select(Post.post_id).where(Post.draft_id.in_(draft_ids), Post.state == PostState.QUEUED)
            ).all()
        for post_id in post_ids:
            send_post(self.db, self.x_interactor, self.config, post_id)

    def _withhold(self, draft_ids: list[UUID]) -> None:
        with self.db.transaction() as session:
            approved = select(Draft).where(Draft.draft_id.in_(draft_ids), Draft.state == DraftState.APPROVED)
            for draft in session.scalars(approved.with_for_update()):
                draft.state = DraftState.REJECTED
                draft.reject_rule = "withheld"
                draft.reject_reason = "timeline_interface was called with reply_to_tweets=False"

    @staticmethod
    def _final_drafts(session: Session, draft_ids: list[UUID]) -> list[Draft]:
        """The drafts that passed the rules, one for each target."""
        rows = session.scalars(select(Draft).where(Draft.draft_id.in_(draft_ids)).order_by(Draft.created_at))
        return [draft for draft in rows if draft.state != DraftState.REJECTED or draft.reject_rule == "withheld"]

    def _answer(self, session: Session, draft: Draft) -> dict[str, Any]:
        target = session.get_one(TimelinePost, (self.config.bot_id, draft.target_post_id))
        post = session.scalars(select(Post).where(Post.draft_id == draft.draft_id)).one_or_none()
        return {
            "tweet": as_tweet(target),
            "reply": draft.content,
            "kind": draft.kind,
            "state": post.state if post else draft.reject_rule or draft.state,
            "x_post_id": post.x_post_id if post else None,
        }

    def get_engagement_metrics(self) -> None:
        """Read the counts of every post that is due and add them to `engagement_db`.

        Raises:
            PutOff: X's window or the budget is empty; the rest stays due.
        """
        measure_due(self.db, self.x_interactor, self.config)


def as_tweet(post: TimelinePost) -> Tweet:
    """A stored post in the form in which X gave it."""
    return Tweet(
        x_post_id=post.x_post_id,
        author_id=post.author_id,
        text=post.text,
        created_at=post.created_at,
        lang=post.lang,
        conversation_id=post.conversation_id,
        in_reply_to_post_id=post.in_reply_to_post_id,
        in_reply_to_user_id=post.in_reply_to_user_id,
        quoted_post_id=post.quoted_post_id,
        counts=Counts(
            likes=post.likes,
            retweets=post.retweets,
            replies=post.replies,
            quotes=post.quotes,
            impressions=post.impressions,
        ),
    )
