"""Forgetting: nothing of the words is left in any table or file, nothing of ours is lost, and nothing comes back."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from factories import BOT, give_checkpoint, give_draft, give_seen
from scripted_x import Reply, post, problem
from sqlalchemy import select, text
from timelines import FIRST, Plant
from typer.testing import CliRunner

from app import clock, forgotten
from app.cli import app as cli
from app.cli import jump_start as commands
from app.connectors.community_db import CommunityDB
from app.context import BotContext
from app.data import clearing, files, manifest
from app.data.clearing import clear_files
from app.data.forgetting import BY_HAND, NOTE, forget
from app.data.gathering import gather
from app.data.vanished import forget_vanished
from app.readiness import fresh_drafts
from app.reading import store_posts
from app.talk import store_talk
from app.text import text_hash
from app.x.parse import tweets_of
from dbs.models import (
    Base,
    Draft,
    DraftSample,
    Engagement,
    Forgotten,
    GateVerdict,
    Judgement,
    Membership,
    Post,
    SeedHandle,
    TimelinePost,
)
from dbs.states import DraftState, HandleState, Kind, PostState, SeenState, Source

CANARY = "quagga"  # in everything that user 7 says, and in nothing else
SAID = f"The {CANARY} stood by the harbour for an hour, and nobody counted it."
OURS = "Nobody counted it? Somebody should."
PROMPT = '<|im_start|>user\n@{} posted:\n"""\n{}\n"""\nReply.<|im_end|>'


def first(number: int) -> str:
    """The id of the n-th planted post."""
    return str(FIRST + number * 1000)


def plant_members(plant: Plant) -> tuple[BotContext, Any]:
    reply = {"in_reply_to_user_id": "7", "referenced_tweets": [{"type": "replied_to", "id": first(1)}]}
    return plant(
        {
            "7": [{"text": SAID}, {"text": f"A second {CANARY} came by the old mill today."}],
            "8": [
                {"text": "@member7 I was there with a lantern and a ladder.", **reply},
                {"text": "The kettle sings."},
            ],
        }
    )


def give_history(context: BotContext) -> dict[str, uuid.UUID]:
    """Everything of 7 that a bot may have: seen, judged, answered, shown beside others, told about our posts."""
    ids: dict[str, uuid.UUID] = {}
    with context.db.transaction() as session:
        checkpoint = give_checkpoint(session)
        give_seen(session, "701", author_id="7", text=SAID, state=SeenState.DRAFTED)
        give_seen(session, "702", author_id="7", text=f"{CANARY}!", state=SeenState.SELECTED)
        give_seen(session, "801", author_id="8", text="Only about kettles.", state=SeenState.DRAFTED)
        session.add(
            Judgement(
                bot_id=BOT, x_post_id="701", judge_version="1", newsworthy=0.1, substantive=0.2, score=0.3,
                selected=True, selection_chance=1.0, selected_by="score", judged_at=clock.now(),
            )
        )  # fmt: skip
        answers = {"kind": Kind.REPLY, "target_post_id": "701", "target_author_id": "7"}
        drafts = {
            "approved": give_draft(session, checkpoint, f"A {CANARY}, really?", **answers),
            "posted": give_draft(session, checkpoint, OURS, state=DraftState.USED, **answers),
            "queued": give_draft(session, checkpoint, "And then?", state=DraftState.USED, **answers),
            "beside": give_draft(session, checkpoint, "Kettles and harbours.", state=DraftState.USED),
            "other": give_draft(
                session, checkpoint, "Kettles.", kind=Kind.REPLY, target_post_id="801", target_author_id="8"
            ),
        }
        for name, draft in drafts.items():
            ids[name] = draft.draft_id
            sample = session.get_one(DraftSample, draft.draft_id)
            sample.prompt = PROMPT.format("member7", SAID) if name != "other" else PROMPT.format("member8", "Kettles")
        for name, state in (("posted", PostState.POSTED), ("queued", PostState.QUEUED), ("beside", PostState.POSTED)):
            session.add(_post(drafts[name], state, target="701" if name == "posted" else "702"))
        session.flush()
        session.add(
            GateVerdict(
                bot_id=BOT, checkpoint_id=checkpoint.checkpoint_id, incumbent_id=checkpoint.checkpoint_id,
                profile="demo", passed=True, numbers={}, reasons=[], judged_at=clock.now(),
                samples=[{"answers": SAID, "candidate": "x"}, {"answers": "Kettles", "candidate": "y"}],
            )
        )  # fmt: skip
        session.add(
            SeedHandle(bot_id=BOT, handle="member7", state=HandleState.RESOLVED, user_id="7", checked_at=clock.now())
        )
        CommunityDB(session, BOT).set_summary("7", f"Writes about every {CANARY}.")
        mine = session.scalars(select(Post).where(Post.draft_id == ids["posted"])).one()
        tweets = tweets_of({"data": [post("901", author_id="7", text=f"my {CANARY}"), post("902", author_id="8")]})
        quotes, comments = store_talk(session, context.config, mine, [(tweet, True) for tweet in tweets])
        session.add(
            Engagement(
                post_id=mine.post_id, bot_id=BOT, retrieval_time=clock.now(), likes=3, quotes_filepath=quotes,
                comments_filepath=comments, planned_age_s=900, age_s=901.0,
            )
        )  # fmt: skip
    return ids


def _post(draft: Draft, state: PostState, target: str) -> Post:
    reply = draft.kind == Kind.REPLY
    return Post(
        content_gen_prompt=PROMPT.format("member7", SAID), content=draft.content, is_reply=reply, bot_id=BOT,
        kind=draft.kind, target_post_id=target if reply else None, target_author_id="7" if reply else None,
        draft_id=draft.draft_id, checkpoint_id=draft.checkpoint_id, persona_version=1,
        text_hash=text_hash(draft.content), state=state, queued_at=clock.now(), due_at=clock.now(),
    )  # fmt: skip


def rows_with(context: BotContext, word: str) -> set[str]:
    """Tables in which a word stands anywhere."""
    with context.db.transaction() as session:
        return {
            table
            for table in Base.metadata.tables
            if session.scalar(text(f"SELECT count(*) FROM {table} t WHERE to_jsonb(t)::text LIKE '%{word}%'"))
        }


def files_with(context: BotContext, word: str) -> list[Path]:
    return [p for p in Path(context.config.data_dir).rglob("*") if p.is_file() and word.encode() in p.read_bytes()]


def test_a_user_is_forgotten_everywhere_and_what_is_ours_stays(plant: Plant) -> None:
    context, _ = plant_members(plant)
    gather(context, agree=lambda _: True)
    ids = give_history(context)
    assert {"timeline_posts", "draft_samples", "drafts", "bot_db", "gate_verdicts"} <= rows_with(context, CANARY)
    assert {"quotes_comments_db", "community_db"} <= rows_with(context, CANARY)
    assert {path.name for path in files_with(context, CANARY)} == {"0.json", "comments.jsonl"}
    for _ in range(2):  # a second time changes nothing
        with context.db.transaction() as session:
            forget(session, context.config, ["7"], BY_HAND)
        clear_files(context.db, context.config)
        assert rows_with(context, CANARY) == set()
        assert files_with(context, CANARY) == []
        with context.db.transaction() as session:
            drafts = {name: session.get_one(Draft, draft_id) for name, draft_id in ids.items()}
            posts = {row.draft_id: row for row in session.scalars(select(Post))}
            left = set(session.scalars(select(DraftSample.draft_id)))
            readings = session.scalars(select(Engagement)).all()
            members = session.scalars(select(Membership.user_id)).all()
            seen = session.scalars(select(TimelinePost.x_post_id)).all()
            data_set = manifest.find(session, BOT)
            fresh = fresh_drafts(session, context.config)
            assert session.scalars(select(Forgotten).where(Forgotten.cleared_at.is_(None))).all() == []
            assert session.get_one(SeedHandle, (BOT, "member7")).reason == "forgotten"
        assert (drafts["approved"].state, drafts["approved"].reject_rule) == (DraftState.REJECTED, "forgotten")
        assert (drafts["other"].state, drafts["other"].content) == (DraftState.APPROVED, "Kettles.")
        assert left == {ids["other"]}
        assert fresh == 0  # nothing can be learnt from a refused draft without its sample
        mine = posts[ids["posted"]]
        assert (mine.state, mine.content, mine.target_post_id) == (PostState.POSTED, OURS, "701")
        assert {row.content_gen_prompt for row in posts.values()} == {NOTE}
        assert posts[ids["queued"]].state == PostState.REJECTED
        assert posts[ids["beside"]].state == PostState.POSTED
        assert (readings[0].likes, bool(readings[0].comments_filepath)) == (3, True)  # what 8 said is still there
        assert members == ["8"]
        assert seen == ["801"]
        assert data_set is not None
        assert (data_set.posts, data_set.dropped) == (2, {"forgotten": 2})
        records = list(files.records(manifest.directory(context.config), manifest.entries_of(data_set)))
        assert sorted((r.post_id, r.parent_text) for r in records) == [(first(3), None), (first(4), None)]


def test_what_is_forgotten_is_never_stored_again(plant: Plant) -> None:
    context, planted = plant_members(plant)
    with context.db.transaction() as session:
        forget(session, context.config, ["7", first(4)], BY_HAND)
    tweets = tweets_of(
        {"data": [post("703", author_id="7"), post(first(4), author_id="8"), post("802", author_id="8")]}
    )
    with context.db.transaction() as session:
        assert store_posts(session, context.config, tweets, Source.TIMELINE) == 1
        assert session.scalars(select(TimelinePost.x_post_id)).all() == ["802"]
    planted.parents[first(1)] = post(first(1), author_id="7", text=SAID)  # asked for, because 8 answers it
    found = gather(context, agree=lambda _: True)
    assert (found.posts, found.dropped) == (1, {"forgotten": 1})
    assert files_with(context, CANARY) == []


def test_a_kill_between_database_and_files_is_made_good(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    context, _ = plant_members(plant)
    gather(context, agree=lambda _: True)
    monkeypatch.setattr(commands, "bot", lambda _: context)
    with monkeypatch.context() as patch:
        patch.setattr(clearing.files, "rewrite", _killed)
        cut = CliRunner().invoke(cli, ["forget", "@Member7"])
    assert isinstance(cut.exception, KeyboardInterrupt | SystemExit)
    assert "explorer forget 7" in cut.output
    assert files_with(context, CANARY)
    assert CliRunner().invoke(cli, ["forget", "7"]).exit_code == 0
    assert files_with(context, CANARY) == []
    itself = CliRunner().invoke(cli, ["forget", context.config.user_id])
    assert itself.exit_code == 2


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_x_no_longer_shows_is_forgotten_a_hundred_to_a_request(plant: Plant) -> None:
    context, planted = plant_members(plant)
    gather(context, agree=lambda _: True)
    with context.db.transaction() as session:
        for number in range(150):
            give_seen(session, str(5000 + number), author_id="8")
    shown = {str(5000 + n) for n in range(150)} | {first(n) for n in (2, 3, 4)}
    planted.parents |= {x_post_id: post(x_post_id) for x_post_id in shown - {"5003", "5120"}}
    before = len(planted.x.requests)
    # X does not show the first planted post and 5003 and 5120.
    assert forget_vanished(context.db, context.x, context.config) == 3
    asked = [request.query["ids"].split(",") for request in planted.x.requests[before:]]
    assert [len(ids) for ids in asked] == [4, 100, 50]
    with context.db.transaction() as session:
        assert forgotten.among(session, BOT, ["5003", "5120", "5004", first(1)]) == {"5003", "5120", first(1)}
    assert not files_with(context, SAID)
    # The next round begins again with the first.
    assert forget_vanished(context.db, context.x, context.config) == 0
    assert planted.x.requests[-2].query["ids"].startswith("5000,")


def test_a_turn_asks_for_no_more_than_it_may_and_the_next_goes_on(plant: Plant) -> None:
    context, planted = plant_members(plant)
    loop = context.config.loop.model_copy(update={"vanished_posts": 3})
    context.config = context.config.model_copy(update={"loop": loop})
    with context.db.transaction() as session:
        for number in (99, 100, 101, 102):
            give_seen(session, str(number), author_id="8")
    planted.x.otherwise = lambda _: _nothing()
    assert forget_vanished(context.db, context.x, context.config) == 0  # X says nothing about them: they stay
    forget_vanished(context.db, context.x, context.config)
    assert [request.query["ids"] for request in planted.x.requests] == ["99,100,101", "102"]
    with context.db.transaction() as session:
        assert len(session.scalars(select(TimelinePost.x_post_id)).all()) == 4


def _nothing() -> Reply:
    return Reply(body={"errors": [problem("resource-not-found", "gone", resource_id="0")]})
