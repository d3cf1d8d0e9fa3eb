"""The stages on real PostgreSQL: what is judged, drafted and kept, and that nothing is done twice."""

from __future__ import annotations

import random
import uuid
from datetime import timedelta

import pytest
from factories import BOT, give_draft, give_persona, give_seen
from sqlalchemy import func, select
from tiny_model import save_adapter

from app import clock
from app.config import LoopConfig, ModelConfig, PPOConfig, VibeBotConfig
from app.data.forgetting import forget
from app.policy import checkpoints, registry
from app.policy.author import Author
from app.policy.checkpoints import AdapterRef, DamagedCheckpointError, ForeignCheckpointError, Manifest
from app.policy.wording import PROMPT_VERSION
from app.safety import FILTER_VERSION
from dbs.models import Bot, Capability, Checkpoint, Community, Draft, DraftSample, Judgement, Membership, TimelinePost
from dbs.states import (
    Arm,
    CheckpointKind,
    CheckpointState,
    DraftState,
    FollowState,
    Kind,
    ReplyPolicy,
    SeenState,
)


@pytest.fixture
def config(config: VibeBotConfig, model_config: ModelConfig, tmp_path) -> VibeBotConfig:
    changes = {
        "model": model_config.model_copy(update={"checkpoint_dir": str(tmp_path / "checkpoints")}),
        "loop": LoopConfig(selection_share=0.5, exploration_share=0.0, quote_share=0.0, max_replies_per_turn=50),
        "ppo": PPOConfig(reference_share=0.25),
    }
    return config.model_copy(update=changes)


@pytest.fixture
def author(config, database, bot, model) -> Author:
    with database.transaction() as session:
        give_persona(session)
        for number in range(10):
            session.add(
                Community(
                    user_id=str(number), handle=f"member{number}", followers=100 * number, fetched_at=clock.now(),
                    account_summary="Writes about trams." if number % 2 else None,
                )
            )  # fmt: skip
            session.flush()
            session.add(
                Membership(bot_id=BOT, user_id=str(number), follow_state=FollowState.FOLLOWING, joined_at=clock.now())
            )
    return make(config, database, model)


def make(config, database, model, seed: int = 1) -> Author:
    return Author(config, database, model=model, chooser=random.Random(seed))


def with_loop(config: VibeBotConfig, **changes) -> VibeBotConfig:
    return config.model_copy(update={"loop": config.loop.model_copy(update=changes)})


def see(database, count: int, first: int = 100, authors: int = 10, **changes) -> None:
    with database.transaction() as session:
        for number in range(first, first + count):
            give_seen(
                session,
                str(number),
                str(number % authors),
                text=f"Post {number} about trams " * (number % 7),
                **changes,
            )


def states(database) -> dict[str, str]:
    with database.transaction() as session:
        return dict(session.execute(select(TimelinePost.x_post_id, TimelinePost.state)).all())


def drafts(database) -> list[Draft]:
    with database.transaction() as session:
        return list(session.scalars(select(Draft).order_by(Draft.created_at)))


def accept_everything(monkeypatch) -> None:
    """A random model's text passes no rule; some tests are about what happens to one that does."""
    monkeypatch.setattr("app.policy.writer.check_text", lambda *_, **__: None)


def test_the_base_is_current_and_the_reference_once(author, config, database, model):
    again = make(config, database, model)
    with database.transaction() as session:
        (row,) = session.scalars(select(Checkpoint)).all()
    assert (row.kind, row.state, row.is_current, row.is_reference) == (
        CheckpointKind.BASE,
        CheckpointState.SERVED,
        True,
        True,
    )
    assert (row.base_hash, row.path) == (model.base_hash, None)
    assert again.ensure_current().current.checkpoint_id == row.checkpoint_id == again.serving


def test_half_of_the_posts_are_selected_by_their_score(author, database):
    see(database, 20)
    judged = author.judge_seen()
    assert sorted(judged) == sorted(str(number) for number in range(100, 120))
    with database.transaction() as session:
        rows = session.scalars(select(Judgement)).all()
    assert len(rows) == 20
    assert {row.judge_version for row in rows} == {author._judge.version}
    for row in rows:
        assert row.score == pytest.approx((row.newsworthy + row.substantive) / 2)
        assert (row.selected_by, row.selection_chance) in {("score", 1.0), ("none", 0.0)}
        assert states(database)[row.x_post_id] == (SeenState.SELECTED if row.selected else SeenState.IGNORED)
    taken, left = ([row.score for row in rows if row.selected is is_in] for is_in in (True, False))
    assert min(taken) > max(left)
    assert author.judge_seen() == []


def test_old_posts_expire_and_context_is_left_alone(author, database, config):
    old = clock.now() - timedelta(minutes=config.loop.max_target_age + 1)
    see(database, 2, created_at=old)
    see(database, 1, first=200, state=SeenState.CONTEXT)
    see(database, 1, first=300, created_at=old, state=SeenState.SELECTED)
    assert author.judge_seen() == []
    assert states(database) == {
        "100": SeenState.EXPIRED, "101": SeenState.EXPIRED, "200": SeenState.CONTEXT, "300": SeenState.EXPIRED,
    }  # fmt: skip


def test_a_summons_is_answered_whatever_its_score(author, database):
    see(database, 3, summons=True)
    author.judge_seen()
    with database.transaction() as session:
        rows = session.scalars(select(Judgement)).all()
    assert [(row.selected, row.selection_chance, row.selected_by) for row in rows] == [(True, 1.0, "summons")] * 3


def test_who_may_not_be_answered_is_not_even_judged(author, database, config):
    with database.transaction() as session:
        session.get_one(Membership, (BOT, "1")).opted_out_at = clock.now()
        session.get_one(Membership, (BOT, "2")).reply_policy = ReplyPolicy.WATCH
        give_seen(session, "101", "1", summons=True)
        give_seen(session, "102", "2")
        give_seen(session, "103", config.user_id)
        give_seen(session, "104", "4")
    assert author.judge_seen() == ["104"]
    with database.transaction() as session:
        reasons = dict(session.execute(select(TimelinePost.x_post_id, TimelinePost.state_reason)).all())
    assert "asked the bot to stop" in reasons["101"]
    assert "watch" in reasons["102"]
    assert "bot itself" in reasons["103"]


def test_where_x_allows_only_summoned_replies_only_those_are_judged(author, database):
    with database.transaction() as session:
        for name in ("reply_unsummoned", "quote"):
            session.add(
                Capability(bot_id=BOT, capability=name, granted=False, source="response", updated_at=clock.now())
            )
        give_seen(session, "101", "1", summons=True)
        give_seen(session, "102", "2")
    assert author.judge_seen() == ["101"]


def test_every_draft_is_kept_with_all_that_learning_needs(author, database, config, model):
    counted = clock.now() - timedelta(minutes=3)
    see(
        database, 8, summons=True, likes=6, retweets=2, replies=1, quotes=0, impressions=40,
        counts_at=counted, created_at=counted - timedelta(minutes=30),
    )  # fmt: skip
    author.judge_seen()
    approved = author.draft_selected()
    rows = drafts(database)
    assert len({row.target_post_id for row in rows}) == 8
    with database.transaction() as session:
        samples = {row.draft_id: row for row in session.scalars(select(DraftSample))}
        judged = {row.judgement_id: row for row in session.scalars(select(Judgement))}
    for row in rows:
        assert row.state == (DraftState.APPROVED if row.draft_id in approved else DraftState.REJECTED)
        assert (row.reject_rule is None) == (row.reject_reason is None) == (row.draft_id in approved)
        assert judged[row.judgement_id].x_post_id == row.target_post_id
        assert (row.judge_score, row.judge_version) == (
            judged[row.judgement_id].score,
            judged[row.judgement_id].judge_version,
        )
        assert (row.selection_chance, row.kind, row.attempt in {1, 2}) == (1.0, Kind.REPLY, True)
        assert row.arm_chance == {Arm.INCUMBENT: 0.75, Arm.REFERENCE: 0.25}[Arm(row.arm)]
        assert row.checkpoint_id == author.serving
        assert (row.persona_version, row.prompt_version, row.filter_version) == (1, PROMPT_VERSION, FILTER_VERSION)
        assert (row.temperature, row.max_new_tokens) == (config.model.temperature, config.model.max_new_tokens)
        assert (row.target_likes, row.target_retweets, row.target_replies, row.target_quotes) == (6, 2, 1, 0)
        assert (row.target_impressions, row.target_author_id) == (40, str(int(row.target_post_id) % 10))
        assert row.target_velocity == pytest.approx(16)
        assert row.target_age_s == pytest.approx(33 * 60, abs=60)
        assert row.author_followers == 100 * int(row.target_author_id)
        assert (row.hour_utc, row.weekday) == (row.created_at.hour, row.created_at.weekday())
        sample = samples[row.draft_id]
        score = model.score([sample.prompt_token_ids], [sample.output_token_ids], row.temperature)
        assert sample.logprobs == pytest.approx(score[0], abs=1e-3)
        assert model.tokenizer.decode(sample.prompt_token_ids) == sample.prompt
        text = model.tokenizer.decode(sample.output_token_ids, skip_special_tokens=True)
        assert text.replace("\x00", "\ufffd").strip() == row.content
        assert row.finished == model.ends(sample.output_token_ids[-1])


def test_a_refused_target_is_tried_again_and_then_given_up(author, database, config):
    see(database, 5, summons=True)
    author.judge_seen()
    approved = author.draft_selected()
    rows = drafts(database)
    for x_post_id, state in states(database).items():
        attempts = [row.attempt for row in rows if row.target_post_id == x_post_id]
        assert attempts == list(range(1, len(attempts) + 1))
        passed = [row for row in rows if row.target_post_id == x_post_id and row.draft_id in approved]
        assert state == (SeenState.DRAFTED if passed else SeenState.GIVEN_UP)
        assert passed or len(attempts) == config.loop.max_drafts_per_target
    assert author.draft_selected() == []
    assert len(drafts(database)) == len(rows)


def test_killed_between_two_attempts_it_goes_on_with_the_second(author, database, config, model, monkeypatch):
    see(database, 3, summons=True)
    author.judge_seen()
    write = author._writer.write
    calls = []

    def killed_at_the_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(author._writer, "write", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        author.draft_selected()
    first = drafts(database)
    assert [row.attempt for row in first] == [1, 1, 1]
    make(config, database, model, seed=2).draft_selected()
    later = [row for row in drafts(database) if row.draft_id not in {row.draft_id for row in first}]
    assert {row.attempt for row in later} == {2}


def test_two_processes_at_the_same_target_make_one_approved_draft(author, database, config, model, monkeypatch):
    accept_everything(monkeypatch)
    see(database, 2, summons=True)
    author.judge_seen()
    other, write = make(config, database, model, seed=2), author._writer.write

    def overtaken(*arguments):
        other.draft_selected()
        return write(*arguments)

    monkeypatch.setattr(author._writer, "write", overtaken)
    assert author.draft_selected() == []
    assert [row.state for row in drafts(database)] == [DraftState.APPROVED] * 2


def test_a_turn_has_a_limit_and_takes_the_newest_first(author, database, config, model, monkeypatch):
    accept_everything(monkeypatch)
    with database.transaction() as session:
        for age in range(5):
            give_seen(
                session, str(age), str(age), summons=age == 4, created_at=clock.now() - timedelta(minutes=age + 1)
            )
        for row in session.scalars(select(TimelinePost)):
            row.state = SeenState.SEEN
    limited = make(with_loop(config, max_replies_per_turn=3, selection_share=1.0), database, model)
    limited.judge_seen()
    assert len(limited.draft_selected()) == 3
    assert {row.target_post_id for row in drafts(database)} == {"4", "0", "1"}


def test_of_one_conversation_and_of_one_author_one_post_is_taken_at_a_time(
    author, database, monkeypatch, config, model
):
    accept_everything(monkeypatch)
    with database.transaction() as session:
        for x_post_id, who, conversation in (("5", "1", "50"), ("4", "2", "50"), ("3", "3", "30"), ("2", "3", "20")):
            age = timedelta(minutes=10 - int(x_post_id))
            give_seen(session, x_post_id, who, conversation_id=conversation, created_at=clock.now() - age)
        for x_post_id in ("9", "8"):  # by who addressed us twice: both are answered, for no cooldown is theirs
            give_seen(session, x_post_id, "4", summons=True)
    everything = make(with_loop(config, max_replies_per_turn=10, selection_share=1.0), database, model)
    everything.judge_seen()
    everything.draft_selected()
    assert {row.target_post_id for row in drafts(database)} == {"9", "8", "5", "3"}
    assert states(database)["4"] == SeenState.SELECTED
    everything.draft_selected()
    assert "4" in {row.target_post_id for row in drafts(database)}


def test_a_share_of_worthy_posts_is_quoted_and_a_summons_never(author, database, config, model, monkeypatch):
    accept_everything(monkeypatch)
    see(database, 60, authors=1000)
    see(database, 10, first=300, summons=True)
    half = make(with_loop(config, quote_share=0.5, selection_share=1.0, max_replies_per_turn=100), database, model)
    half.judge_seen()
    half.draft_selected()
    rows = drafts(database)
    assert {row.kind for row in rows if int(row.target_post_id) >= 300} == {Kind.REPLY}
    quotes = sum(row.kind == Kind.QUOTE for row in rows)
    assert 15 <= quotes <= 45
    with database.transaction() as session:
        prompts = session.execute(
            select(Draft.kind, DraftSample.prompt).join(DraftSample, DraftSample.draft_id == Draft.draft_id)
        )
        for kind, prompt in prompts:
            assert ("Share the post of" in prompt) == (kind == Kind.QUOTE)


def test_the_thread_above_is_in_the_prompt_and_its_people_may_be_named(author, database, monkeypatch):
    seen = []
    monkeypatch.setattr("app.policy.writer.check_text", lambda _, **options: seen.append(options))
    with database.transaction() as session:
        give_seen(session, "1", "1", text="the first", state=SeenState.CONTEXT)
        give_seen(session, "2", "2", text="the second", in_reply_to_post_id="1", state=SeenState.CONTEXT)
        give_seen(session, "3", "3", text="the third", in_reply_to_post_id="2", summons=True)
    author.judge_seen()
    (draft_id,) = author.draft_selected()
    with database.transaction() as session:
        prompt = session.get_one(DraftSample, draft_id).prompt
    places = [
        prompt.index(text) for text in ("the first", "the second", "About @member3: Writes about trams.", "the third")
    ]
    assert places == sorted(places)
    assert seen[0]["allowed_handles"] == {"member1", "member2", "member3"}
    assert set(seen[0]["source_texts"]) == {"the first", "the second", "the third"}


def test_what_we_said_lately_is_not_said_again(author, database, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "app.policy.writer.check_text", lambda text, **options: seen.append((text, list(options["recent"])))
    )
    with database.transaction() as session:
        row = session.get_one(Checkpoint, author.ensure_current().current.checkpoint_id)
        give_draft(session, row, "said before", state=DraftState.USED)
        give_draft(session, row, "refused before", state=DraftState.REJECTED)
    see(database, 2, summons=True)
    author.judge_seen()
    author.draft_selected()
    assert seen[0][1] == ["said before"]
    assert seen[1][1] == ["said before", seen[0][0]], "drafts of one batch must not repeat each other"


def add_checkpoint(database, config, model, tmp_path, *, kind: CheckpointKind, seed: int, below=(), state="candidate"):
    """A real checkpoint: written, verified, committed."""
    adapter = save_adapter(tmp_path / f"adapter{seed}", model.directory, seed=seed)
    name, checkpoint_id = ("reference" if kind is CheckpointKind.SFT else "policy"), uuid.uuid4()
    manifest = Manifest(
        checkpoint_id=checkpoint_id,
        bot_id=BOT,
        kind=kind,
        base_model=str(model.directory),
        base_hash=model.base_hash,
        stack=[*below, AdapterRef(name=name, checkpoint_id=checkpoint_id)],
        created_at=clock.now(),
    )
    tensors, settings = checkpoints.read_adapter(adapter), checkpoints.read_adapter_config(adapter)
    place, manifest = checkpoints.write(config.model.checkpoint_dir, tensors, settings, manifest)
    with database.transaction() as session:
        registry.commit(session, manifest).state = state
    return place, manifest


def point_at(database, checkpoint_id: uuid.UUID, column: str) -> None:
    with database.transaction() as session:
        for row in session.scalars(select(Checkpoint)):
            setattr(row, column, False)
        session.flush()
        setattr(session.get_one(Checkpoint, checkpoint_id), column, True)


def test_the_next_batch_writes_with_what_the_pointers_say(author, database, config, model, tmp_path):
    base = author.ensure_current().current.checkpoint_id
    _, sft = add_checkpoint(database, config, model, tmp_path, kind=CheckpointKind.SFT, seed=1, state="served")
    _, ppo = add_checkpoint(
        database, config, model, tmp_path, kind=CheckpointKind.PPO, seed=2, below=sft.stack, state="served"
    )
    _, canary = add_checkpoint(
        database, config, model, tmp_path, kind=CheckpointKind.PPO, seed=3, below=sft.stack, state="canary"
    )
    point_at(database, ppo.checkpoint_id, "is_current")
    point_at(database, sft.checkpoint_id, "is_reference")
    see(database, 40, summons=True)
    version = author._judge.version if author._judge else None
    author.judge_seen()
    assert author._judge.version != version
    assert sft.checkpoint_id.hex[:8] in author._judge.version
    author.draft_selected()
    rows = drafts(database)
    by_arm = {arm: {row.checkpoint_id for row in rows if row.arm == arm} for arm in Arm}
    assert by_arm == {
        Arm.INCUMBENT: {ppo.checkpoint_id}, Arm.CANARY: {canary.checkpoint_id}, Arm.REFERENCE: {sft.checkpoint_id},
    }  # fmt: skip
    assert {row.arm: row.arm_chance for row in rows} == {Arm.INCUMBENT: 0.375, Arm.CANARY: 0.375, Arm.REFERENCE: 0.25}
    assert author.serving == ppo.checkpoint_id != base
    for row in rows:
        stack = {ppo.checkpoint_id: ppo, canary.checkpoint_id: canary, sft.checkpoint_id: sft}[row.checkpoint_id].stack
        model.use([checkpoints.directory(config.model.checkpoint_dir, BOT, adapter.checkpoint_id) for adapter in stack])
        with database.transaction() as session:
            sample = session.get_one(DraftSample, row.draft_id)
        score = model.score([sample.prompt_token_ids], [sample.output_token_ids], row.temperature)
        assert sample.logprobs == pytest.approx(score[0], abs=1e-3)


def test_a_damaged_checkpoint_is_never_mounted(author, database, config, model, tmp_path):
    place, manifest = add_checkpoint(database, config, model, tmp_path, kind=CheckpointKind.PPO, seed=4, state="served")
    weights = place / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    before = author.serving
    point_at(database, manifest.checkpoint_id, "is_current")
    with pytest.raises(DamagedCheckpointError, match="adapter_model"):
        author.ensure_current()
    assert author.serving == before


def test_a_pointer_to_another_base_is_one_clear_error(author, database):
    current = author.ensure_current().current.checkpoint_id
    with database.transaction() as session:
        session.get_one(Checkpoint, current).base_hash = "0" * 64
    with pytest.raises(ForeignCheckpointError, match=r"model\.hf_repo_id"):
        author.ensure_current()


def test_a_post_of_its_own_has_a_topic_and_the_chance_of_it(author, database, monkeypatch):
    accept_everything(monkeypatch)
    with database.transaction() as session:
        for number in range(6):
            give_seen(session, str(number), str(number), text=f"The ferry {number} is late", state=SeenState.IGNORED)
    ids = [author.draft_own_post() for _ in range(4)]
    rows = {row.draft_id: row for row in drafts(database)}
    assert set(ids) == set(rows)
    assert "ferry" in {row.topic for row in rows.values()}
    for row in rows.values():
        assert (row.kind, row.target_post_id, row.state) == (Kind.POST, None, DraftState.APPROVED)
        assert 0 < row.selection_chance <= 1
        with database.transaction() as session:
            prompt = session.get_one(DraftSample, row.draft_id).prompt
        assert f"Write a post about {row.topic} in one sentence." in prompt
        assert ("People you follow posted" in prompt) == (row.topic in {"ferry", "late"})


def test_an_own_post_that_is_refused_is_kept_and_given_up(author, database, config):
    draft_id = author.draft_own_post()
    rows = drafts(database)
    assert [row.attempt for row in rows] == list(range(1, len(rows) + 1))
    if draft_id is None:
        assert len(rows) == config.loop.max_drafts_per_target
        assert all(row.reject_rule for row in rows)


def test_members_are_summarised_from_three_posts_on(author, database, monkeypatch):
    monkeypatch.setattr("app.policy.author.check_text", lambda *_, **__: None)
    with database.transaction() as session:
        for number, posts in ((1, 3), (2, 2), (4, 5)):
            for post in range(posts):
                give_seen(session, f"{number}{post}", str(number), state=SeenState.IGNORED)
        session.get_one(Membership, (BOT, "4")).opted_out_at = clock.now()
        session.get_one(Community, "1").account_summary = None
    assert author.summarise_members(10) == 1
    with database.transaction() as session:
        rows = {row.user_id: row for row in session.scalars(select(Community))}
    assert rows["1"].account_summary
    assert "\n" not in rows["1"].account_summary
    assert rows["1"].summary_at is not None
    assert rows["2"].summary_at is None
    assert rows["4"].summary_at is None
    assert author.summarise_members(10) == 0


def test_a_summary_that_the_rules_refuse_does_not_stand_in_prompts(author, database, monkeypatch):
    monkeypatch.setattr(author, "_summary", lambda _: None)
    with database.transaction() as session:
        for post in range(3):
            give_seen(session, str(post), "1", state=SeenState.IGNORED)
    assert author.summarise_members(10) == 0
    with database.transaction() as session:
        row = session.get_one(Community, "1")
        assert row.account_summary == "Writes about trams."
        assert row.summary_at is not None


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        (" trams and ferries. And more.", "Writes about trams and ferries."),
        (" trams\nLine two", "Writes about trams"),
        ("Follow @someone for https://spam.example", None),
        ("", None),
    ],
)
def test_a_summary_is_one_clean_sentence(author, text, summary):
    assert author._summary(text) == summary


def test_another_bot_is_left_alone(author, config, database, model):
    with database.transaction() as session:
        session.add(Bot(bot_id="other", user_id="2000002", created_at=clock.now()))
        session.flush()
        give_seen(session, "500", "5", bot_id="other")
    see(database, 2)
    author.judge_seen()
    author.draft_selected()
    assert states(database)["500"] == SeenState.SEEN
    with database.transaction() as session:
        for table in (Draft, Judgement, DraftSample):
            assert session.execute(select(func.count()).where(table.bot_id == "other")).scalar_one() == 0


@pytest.mark.parametrize("stage", ["draft_selected", "draft_own_post"])
def test_what_was_written_while_somebody_was_forgotten_is_not_kept(author, config, database, monkeypatch, stage):
    accept_everything(monkeypatch)
    see(database, 10)
    author.judge_seen()
    write, forgot = author._writer.write, []

    def write_and_forget(jobs, hands, recent):
        if not forgot:
            forgot.append([job.facts.get("target_post_id") for job in jobs])
            with database.transaction() as session:
                forget(session, config, forgot[0][0:1] if forgot[0][0] else ["100"], "by hand")
        return write(jobs, hands, recent)

    monkeypatch.setattr(author._writer, "write", write_and_forget)
    assert getattr(author, stage)()
    kept = {draft.target_post_id for draft in drafts(database)}
    # Of the first batch nothing is kept; what is still there was written again.
    assert kept == ({None} if stage == "draft_own_post" else set(forgot[0][1:]))
    assert len(drafts(database)) == len(kept)
