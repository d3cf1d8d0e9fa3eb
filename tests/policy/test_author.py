"""The stages on real PostgreSQL: what is judged, drafted and kept, and that nothing is done twice."""

from __future__ import annotations

from datetime import timedelta

import pytest
from author_life import accept_everything, drafts, make, see, states, with_loop
from factories import BOT, give_draft, give_seen
from sqlalchemy import func, select

from app import clock
from app.data.forgetting import forget
from app.policy.wording import PROMPT_VERSION
from app.safety import FILTER_VERSION
from dbs.models import Bot, Capability, Checkpoint, Draft, DraftSample, Judgement, Membership, TimelinePost
from dbs.states import (
    Arm,
    CheckpointKind,
    CheckpointState,
    DraftState,
    Kind,
    ReplyPolicy,
    SeenState,
)


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
    see(database, 20, authors=1000)
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


def test_a_summons_is_selected_without_being_judged(author, database, monkeypatch):
    accept_everything(monkeypatch)
    see(database, 3, summons=True)
    see(database, 20, first=200, authors=1000)
    assert {"100", "101", "102"} < set(author.judge_seen())
    assert {states(database)[x_post_id] for x_post_id in ("100", "101", "102")} == {SeenState.SELECTED}
    with database.transaction() as session:
        judged = set(session.scalars(select(Judgement.x_post_id)))
    assert judged == {str(number) for number in range(200, 220)}
    author.draft_selected()
    written = [row for row in drafts(database) if row.target_post_id.startswith("10")]
    assert [(row.judgement_id, row.judge_score, row.selection_chance) for row in written] == [(None, None, 1.0)] * 3


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


def test_a_post_that_could_not_be_answered_next_is_not_judged_yet(author, database, config, model, monkeypatch):
    accept_everything(monkeypatch)
    with database.transaction() as session:
        for x_post_id, who, conversation in (("7", "1", None), ("6", "1", None), ("5", "2", "50"), ("4", "3", "50")):
            age = timedelta(minutes=10 - int(x_post_id))
            give_seen(session, x_post_id, who, conversation_id=conversation, created_at=clock.now() - age)
        for x_post_id in ("9", "8"):  # no cooldown is for who calls
            give_seen(session, x_post_id, "1", summons=True, created_at=clock.now() - timedelta(minutes=11))
    everything = make(with_loop(config, selection_share=1.0, max_replies_per_turn=2), database, model)
    # Who called comes first, and member1's other posts come after that.
    assert set(everything.judge_seen()) == {"9", "8", "5"}
    assert everything.judge_seen() == [], "the others wait behind posts that were selected"
    assert len(everything.draft_selected()) == 2
    assert everything.judge_seen() == ["7"]
    everything.draft_selected()
    assert everything.judge_seen() == ["6", "4"]


def test_posts_that_stand_in_line_leave_the_turn_to_others(author, database, monkeypatch):
    monkeypatch.setattr("app.policy.author.JUDGED_PER_TURN", 2)
    see(database, 6, authors=1000, summons=True, conversation_id="50")
    see(database, 3, first=200, authors=1)
    judged = sorted(author.judge_seen())
    assert len(judged) == 2
    assert judged[0].startswith("10"), "one of who called comes first"
    assert judged[1].startswith("20"), "and the others of that conversation are in nobody's way"


def test_a_post_that_is_not_selected_lets_its_author_s_next_one_be_judged(author, database, config, model):
    see(database, 6, authors=2)
    nothing = make(with_loop(config, selection_share=0.01, exploration_share=0.0), database, model)
    for turn in ({"105", "104"}, {"103", "102"}, {"101", "100"}):
        assert set(nothing.judge_seen()) == turn


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
    author = make(with_loop(config, selection_share=1.0, quote_share=0.0), database, model)
    see(
        database, 8, likes=6, retweets=2, replies=1, quotes=0, impressions=40,
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
    assert states(database)["4"] == SeenState.SEEN
    everything.judge_seen()
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
