"""The author: the stages of the generation queue, with the model resident between them.

Each stage reads in one short transaction, lets the model work outside any, and writes in another that first makes sure
that nobody else has been there, and that nothing of what was read was forgotten meanwhile. Killed in between, nothing
is lost but the model's work, and nothing is done twice.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy.orm import Session

from app import clock, forgotten, persona
from app.config import PersonaConfig, VibeBotConfig
from app.policy import pairs, records, registry, targets
from app.policy.judge import Judge, Scores, select, threshold
from app.policy.model import LanguageModel
from app.policy.pointers import PointerReader, Pointers
from app.policy.prompts import PromptBuilder, Said
from app.policy.topics import Heard, choose_topic
from app.policy.wording import SUMMARY_OPENING
from app.policy.writer import Job, Writer, Written
from app.safety import check_text
from dbs.models import Community, TimelinePost
from dbs.session import Database
from dbs.states import Kind, SeenState

log = structlog.get_logger()

JUDGED_PER_TURN = 64
SCORES_COMPARED = 500  # newest judgements whose quantile is the bar
TALK_HOURS = 24  # how far back the community's talk goes
TALK_POSTS = 400
TOPICS_AVOIDED = 3  # of our newest posts
SUMMARY_POSTS = 3  # seen posts from which on a member is summarised
SUMMARY_LIFE = timedelta(days=7)
SUMMARY_TEMPERATURE = 0.3  # a description, not an action of the policy: near the most likely words
SUMMARY_TOKENS = 40


class Author:
    """Judges what was read, writes what is worth saying.

    Args:
        config: the bot's config.
        db: where everything is kept.
        model: a loaded model; by default the one that the config names is loaded now.
        chooser: makes every random choice; by default seeded by the system.
    """

    def __init__(
        self,
        config: VibeBotConfig,
        db: Database,
        *,
        model: LanguageModel | None = None,
        chooser: random.Random | None = None,
    ) -> None:
        self._config = config
        self._db = db
        self._random = chooser or random.Random()
        self.model = model or LanguageModel(config.model)
        self._prompts = PromptBuilder(self.model.tokenizer, config.model.max_prompt_tokens)
        self._writer = Writer(self.model, config, self._random)
        self._reader = PointerReader(config, self.model.base_hash)
        self._judge: Judge | None = None
        self._judged_by: uuid.UUID | None = None
        self.serving: uuid.UUID | None = None
        self.ensure_base_checkpoint()

    def ensure_base_checkpoint(self) -> uuid.UUID:
        """Give the bot the row of its base model, current and the reference where it has no checkpoint yet."""
        with self._db.transaction() as session:
            name = self._config.model.hf_repo_id
            return registry.ensure_base(session, self._config.bot_id, name, self.model.base_hash).checkpoint_id

    def ensure_current(self) -> Pointers:
        """Compare the pointers in Postgres with what is in memory, and swap adapters where they differ.

        Raises:
            CheckpointError: a checkpoint is damaged, or sits on another base model.
        """
        began = time.monotonic()
        with self._db.transaction() as session:
            pointers = self._reader.read(session)
        self.model.use(pointers.current.stack)
        seconds = time.monotonic() - began
        before, self.serving = self.serving, pointers.current.checkpoint_id
        if before != self.serving:
            log.info("checkpoint.serving", checkpoint_id=str(self.serving))
        if before not in {None, self.serving}:
            with self._db.transaction() as session:
                records.reload(session, self._config.bot_id, before, self.serving, seconds)
        return pointers

    def judge_seen(self) -> list[str]:
        """Judge posts that were read and not judged, up to a turn's worth; those too old expire instead.

        A turn has a limit, because posts may come in as fast as they are judged, and judging must not keep the bot
        from writing. Who addresses the bot comes first, then the newest; of one author's posts, and of one
        conversation's, a turn takes one, for no more could be answered.

        Who addresses the bot is answered whatever the post says, so it is selected without being judged: its score
        would decide nothing but the bar for the others.

        Returns:
            X ids of the posts that were decided on.
        """
        with self._db.transaction() as session:
            forgotten.hold(session, self._config.bot_id)
            expired = targets.expire(session, self._config)
            posts = targets.unjudged(session, self._config.bot_id, JUDGED_PER_TURN)
            barred = targets.unanswerable(session, self._config, posts)
        called = [post.x_post_id for post in posts if post.summons and post.x_post_id not in barred]
        asked = [post for post in posts if not post.summons and post.x_post_id not in barred]
        judge = self._reference_judge()
        scores = judge.judge([post.text for post in asked]) if asked else []
        by_id = {post.x_post_id: score for post, score in zip(asked, scores, strict=True)}
        with self._db.transaction() as session:
            forgotten.hold(session, self._config.bot_id)
            rows = targets.still(session, self._config.bot_id, [*by_id, *barred, *called], SeenState.SEEN)
            self._decide(rows, barred, called)
            judged = self._store_judgements(session, rows, judge.version, by_id)
        log.info("posts.judged", judged=len(judged), expired=expired)
        return [x_post_id for x_post_id in called if x_post_id in rows] + judged

    def draft_selected(self) -> list[uuid.UUID]:
        """Write drafts for the selected posts, up to a turn's worth, each tried again while it is refused.

        In co-pilot mode a post that did not call the bot gets two, which are offered to a person.

        Returns:
            Ids of the drafts that were approved. Refused ones are kept, too.
        """
        with self._db.transaction() as session:
            forgotten.hold(session, self._config.bot_id)
            targets.expire(session, self._config)
            waiting = targets.next_targets(session, self._config, self._config.loop.max_replies_per_turn)
        wanted = [post.x_post_id for post in waiting]
        approved: list[uuid.UUID] = []
        while wanted:
            pointers = self.ensure_current()
            with self._db.transaction() as session:
                known = forgotten.count(session, self._config.bot_id)
                current_persona = persona.current(session, self._config.bot_id)
                maker = targets.JobMaker(session, self._config, self._prompts)
                rows = targets.still(session, self._config.bot_id, wanted, SeenState.SELECTED)
                as_config = persona.as_config(current_persona, adaptive=self._config.persona.adaptive)
                jobs = [
                    job for x_post_id in wanted if x_post_id in rows for job in maker.make(rows[x_post_id], as_config)
                ]
                recent = targets.recent_texts(session, self._config.bot_id)
            hands = pointers.hands(self._config.ppo.reference_share)
            began = time.monotonic()
            drafts = self._writer.write(jobs, hands, recent)
            seconds = time.monotonic() - began
            with self._db.transaction() as session:
                if self._forgot(session, since=known):
                    continue
                approved += self._store_answers(session, drafts, current_persona.version)
                records.batch(session, self._config.bot_id, drafts, seconds, pointers)
                left = targets.still(session, self._config.bot_id, wanted, SeenState.SELECTED)
            wanted = [x_post_id for x_post_id in wanted if x_post_id in left]
        log.info("targets.drafted", approved=len(approved), targets=len(waiting))
        return approved

    def draft_own_post(self) -> uuid.UUID | None:
        """Write a post of the bot's own, tried again while it is refused.

        Returns:
            Id of the approved draft; None if every one was refused.
        """
        for attempt in range(1, self._config.loop.max_drafts_per_target + 1):
            pointers = self.ensure_current()
            with self._db.transaction() as session:
                known = forgotten.count(session, self._config.bot_id)
                current_persona = persona.current(session, self._config.bot_id)
                as_config = persona.as_config(current_persona, adaptive=self._config.persona.adaptive)
                job = self._own_job(session, as_config, attempt)
                recent = targets.recent_texts(session, self._config.bot_id)
            (draft,) = self._writer.write([job], pointers.hands(self._config.ppo.reference_share), recent)
            with self._db.transaction() as session:
                if self._forgot(session, since=known):
                    continue
                draft_id = records.add_draft(session, self._config, draft, current_persona.version)
            if draft.refusal is None:
                log.info("own_post.drafted", draft_id=str(draft_id), topic=job.facts["topic"])
                return draft_id
        log.info("own_post.refused", attempts=self._config.loop.max_drafts_per_target)
        return None

    def summarise_members(self, limit: int) -> int:
        """Describe members of whom enough was read, in the reference's words; returns how many descriptions were kept.

        A description that the rules refuse is not kept; its member's turn comes again when the summaries are renewed.
        """
        now = clock.now()
        with self._db.transaction() as session:
            known = forgotten.count(session, self._config.bot_id)
            members = targets.unsummarised(
                session, self._config.bot_id, fewest_posts=SUMMARY_POSTS, before=now - SUMMARY_LIFE, limit=limit
            )
            prompts = [self._summary_prompt(session, member) for member in members]
        if not members:
            return 0
        self.model.use(self.ensure_current().reference.stack)
        samples = self.model.sample(
            prompts,
            temperature=SUMMARY_TEMPERATURE,
            max_new_tokens=SUMMARY_TOKENS,
            seed=self._random.randrange(2**31),
        )
        summaries = [self._summary(sample.text) for sample in samples]
        with self._db.transaction() as session:
            if self._forgot(session, since=known):
                return 0
            for member, summary in sorted(zip(members, summaries, strict=True), key=lambda pair: pair[0].user_id):
                row = session.get(Community, member.user_id, with_for_update=True)
                if row is not None:
                    row.account_summary, row.summary_at = summary or row.account_summary, now
        log.info("members.summarised", asked=len(members), kept=sum(summary is not None for summary in summaries))
        return sum(summary is not None for summary in summaries)

    def _forgot(self, session: Session, *, since: int) -> bool:
        """Whether something was forgotten since that many subjects were: what was made may hold its words."""
        changed = forgotten.count(session, self._config.bot_id) != since
        if changed:
            log.info("work.dropped", reason="posts were forgotten while the model worked")
        return changed

    def _reference_judge(self) -> Judge:
        """The judge, with the reference active. Its calibration is kept as long as the reference is the same."""
        pointers = self.ensure_current()
        self.model.use(pointers.reference.stack)
        if self._judge is None or self._judged_by != pointers.reference.checkpoint_id:
            name = pointers.reference.checkpoint_id.hex if pointers.reference.stack else "base"
            self._judge, self._judged_by = Judge(self.model, self._prompts, name), pointers.reference.checkpoint_id
        return self._judge

    @staticmethod
    def _decide(rows: dict[str, TimelinePost], barred: dict[str, str], called: Sequence[str]) -> None:
        """Settle what needs no judgement: who may not be answered, and who addresses the bot."""
        decisions = {x_post_id: (SeenState.IGNORED, reason) for x_post_id, reason in barred.items()}
        decisions |= dict.fromkeys(called, (SeenState.SELECTED, "summons: it addresses the bot"))
        for x_post_id in decisions.keys() & rows.keys():
            rows[x_post_id].state, rows[x_post_id].state_reason = decisions[x_post_id]

    def _store_judgements(
        self, session: Session, rows: dict[str, TimelinePost], version: str, scores: dict[str, Scores]
    ) -> list[str]:
        known = targets.recent_scores(session, self._config.bot_id, version, SCORES_COMPARED)
        limit = threshold([*known, *(score.score for score in scores.values())], self._config.loop.selection_share)
        judged = [x_post_id for x_post_id in scores if x_post_id in rows]
        for x_post_id in judged:
            row, score = rows[x_post_id], scores[x_post_id]
            selection = select(
                score.score,
                limit,
                exploration=self._config.loop.exploration_share,
                roll=self._random.random(),
            )
            session.add(records.judgement(row, version, score, selection))
            row.state = SeenState.SELECTED if selection.selected else SeenState.IGNORED
            row.state_reason = f"{selection.by}: score {score.score:.2f}, bar {limit:.2f}"
        return judged

    def _store_answers(self, session: Session, drafts: Sequence[Written], persona_version: int) -> list[uuid.UUID]:
        ids = [draft.job.facts["target_post_id"] for draft in drafts]
        rows = targets.still(session, self._config.bot_id, ids, SeenState.SELECTED)
        approved = []
        for x_post_id, written in zip(ids, drafts, strict=True):
            if x_post_id not in rows:
                log.info("draft.dropped", x_post_id=x_post_id, reason="another process has dealt with the target")
                continue
            row = rows[x_post_id]
            draft = pairs.unless_too_alike(session, self._config, row, written)
            draft_id = records.add_draft(session, self._config, draft, persona_version)
            if draft.refusal is None and not draft.job.for_a_person:
                row.state, row.state_reason = SeenState.DRAFTED, None
                approved.append(draft_id)
            elif draft.job.for_a_person and pairs.is_whole(session, row):
                row.state, row.state_reason = SeenState.DRAFTED, None
            elif draft.job.attempt >= pairs.most_attempts(self._config, row):
                row.state = SeenState.GIVEN_UP
                row.state_reason = self._why_given_up(draft)
                pairs.give_up(session, row)
        return approved

    @staticmethod
    def _why_given_up(draft: Written) -> str:
        if draft.refusal is None:
            return f"{draft.job.attempt} drafts were written, and no two of them passed the rules"
        return f"{draft.job.attempt} drafts were refused, the last by {draft.refusal.rule}"

    def _own_job(self, session: Session, as_config: PersonaConfig, attempt: int) -> Job:
        since = clock.now() - timedelta(hours=TALK_HOURS)
        heard = [Heard(*row) for row in targets.heard(session, self._config.bot_id, since, TALK_POSTS)]
        avoid = targets.last_topics(session, self._config.bot_id, TOPICS_AVOIDED)
        topic = choose_topic(as_config.interests, heard, avoid=avoid, chooser=self._random)
        facts: dict[str, Any] = {"topic": topic.text, "selection_chance": topic.chance}
        return Job(
            kind=Kind.POST,
            prompt=self._prompts.own_post(as_config, topic.text, [Said(post.handle, post.text) for post in topic.talk]),
            source_texts=tuple(post.text for post in topic.talk),
            attempt=attempt,
            facts=facts,
        )

    def _summary_prompt(self, session: Session, member: Community) -> list[int]:
        texts = targets.texts_of(session, self._config.bot_id, member.user_id, limit=8)
        return self._prompts.account_summary(member.handle, member.bio, texts).token_ids

    def _summary(self, text: str) -> str | None:
        """The first sentence of a description, or None if it may not be kept: it will stand in prompts.

        Args:
            text: what the model wrote after the opening words.
        """
        sentence, stop, _ = text.strip().partition("\n")[0].partition(". ")
        summary = f"{SUMMARY_OPENING} {sentence}{stop.strip()}"
        refusal = check_text(
            sentence,
            kind=Kind.POST,
            allowed_handles=set(),
            recent=(),
            safety=self._config.safety,
            source_texts=(),
        )
        return None if refusal else summary
