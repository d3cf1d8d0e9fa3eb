"""A start makes no more of the history than it needs; what it leaves for later comes to the same world."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from pathlib import Path

import golden
import numpy as np
import pytest

from app.sandbox import chance, world, writing
from app.sandbox.community import TasteCommunity
from app.sandbox.communityfile import CommunityFile, CommunityFileError, load
from app.sandbox.posts import Post, Shelf
from app.sandbox.settings import Settings
from app.sandbox.store import Store

HOURS = 60


def posts(file: CommunityFile) -> list[Post]:
    community = TasteCommunity(file, 1, "explorer_bot")
    return list(community.posts_until(golden.START - timedelta(hours=HOURS), golden.START))


def told(found: list[Post]) -> list[list[object]]:
    return [[getattr(post, name) for name in golden.FIELDS] for post in found]


def changed(**parts: dict[str, object]) -> CommunityFile:
    body = load("default").model_dump(mode="json")
    return CommunityFile.model_validate(body | {name: body[name] | part for name, part in parts.items()})


@pytest.mark.parametrize("world", golden.WORLDS)
def test_a_seed_comes_to_what_it_came_to(world: str) -> None:
    # Where a community file, a lexicon or the mechanism is meant to be another one: python tests/sandbox/golden.py
    written_down = json.loads(golden.FILE.read_text(encoding="utf-8"))[world]
    assert json.loads(json.dumps(golden.account(world))) == written_down


def test_posts_are_the_same_in_whatever_order_they_are_read() -> None:
    in_order, shuffled, backwards = posts(load("default")), posts(load("default")), posts(load("default"))
    expected = told(in_order)
    mixed = list(shuffled)
    random.Random(3).shuffle(mixed)
    for post in mixed:
        assert post.text
    for post in reversed(backwards):
        assert post.kind
    assert told(shuffled) == told(backwards) == expected


def test_one_number_is_the_one_that_an_array_would_have_begun_with() -> None:
    for number in range(2000):
        found = chance.normals(chance.key("number", number), np.zeros(2, dtype=np.uint64))
        assert chance.normal("number", number) == found[0]


def test_what_posts_earned_is_the_same_once_it_was_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(world, "KEPT_REACTIONS", 10)
    community, store = TasteCommunity(load("default"), 1, "explorer_bot"), Store(tmp_path)
    here = world.World(Settings(tmp_path), community, store)
    recent = [here.shelf.by_id[post_id] for post_id in here.shelf.all[-200:]]
    at = here.now + timedelta(days=1)
    before = [here.counts_at(post, at) for post in recent]
    assert [here.counts_at(post, at) for post in reversed(recent)] == before[::-1]
    assert any(counts.likes for counts in before)
    store.close()


def test_texts_that_were_forgotten_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = told(posts(load("default")))
    monkeypatch.setattr(writing, "KEPT_TEXTS", 10)
    found = posts(load("default"))
    assert told(found) == told(found) == expected
    assert isinstance(found[0], writing.MemberPost)
    assert found[0].pen.text.cache_info().currsize == 10


def test_threads_that_hang_on_each_other_for_days_do_not_fill_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    body = load("default").model_dump(mode="json")
    topics = list(body["topics"])
    members = [m | {"interests": {topics[i % len(topics)]: 0.9}} for i, m in enumerate(body["members"])]
    body |= {"members": members, "rhythm": body["rhythm"] | {"reply_share": 0.95, "mention_share": 0.0}}
    file = CommunityFile.model_validate(body)
    in_order, backwards, gone_through = posts(file), posts(file), list[writing.Hour]()
    go_through = writing._go_through
    monkeypatch.setattr(writing, "_go_through", lambda hour: (gone_through.append(hour), go_through(hour)))
    expected = told(in_order)
    assert not gone_through
    monkeypatch.setattr(writing, "DEEPEST", 3)
    last = [backwards[-1].text, *(post.text for post in reversed(backwards))][0]
    assert gone_through
    assert last == expected[-1][2]
    assert told(backwards) == expected


def test_whom_a_post_mentions_is_known_before_its_text() -> None:
    for post in posts(load("feierabend")) + posts(load("default")):
        assert isinstance(post, writing.MemberPost)
        made = post.pen.text.cache_info().misses
        known = post.mentioned
        assert post.pen.text.cache_info().misses == made, "no text was needed"
        assert known == Post.mentioned.__get__(post)


def test_templates_that_name_somebody_are_read_for_mentions() -> None:
    found = posts(changed(common={"closer": [" Ask @noctuary."]}))
    named = [post for post in found if post.substance == "idea" and post.kind == "post"]
    assert named
    assert all(post.mentioned == ["noctuary"] for post in named)


def test_a_shelf_finds_the_same_whether_threads_are_looked_at_before_or_after() -> None:
    at_once, later = Shelf(), Shelf()
    for post in posts(load("default")):
        at_once.add(post)
    for post in posts(load("default")):
        later.add(post, later=True)
    assert not any("thread" in vars(post) for post in later.by_id.values())
    ids, last = at_once.all, at_once.all[-1]
    assert later.all == ids
    # The newest mentions, page by page, and a span in the middle: what a bot asks first.
    everything = list(at_once.mentioning("explorer_bot", 0, last))
    assert len(everything) > 10
    asked = later.mentioning("explorer_bot", 0, last)
    assert [next(asked) for _ in range(5)] == everything[:5]
    assert not all("thread" in vars(post) for post in later.by_id.values())
    low, high = ids[len(ids) // 3], ids[len(ids) // 2]
    assert list(later.mentioning("explorer_bot", low, high)) == [i for i in everything if low < i <= high]
    for kind in ("reply", "repost"):
        assert any(at_once.answering(kind, i) for i in ids)
        assert [later.answering(kind, i) for i in ids] == [at_once.answering(kind, i) for i in ids]
    assert [later.conversation(i) for i in ids] == [at_once.conversation(i) for i in ids]
    assert later.conversation(1) == []
    assert list(later.mentioning("explorer_bot", 0, last)) == everything


def test_a_conversation_is_whole_when_it_is_the_first_thing_asked_for() -> None:
    at_once, found = Shelf(), posts(load("default"))
    for post in found:
        at_once.add(post)
    root = max(at_once.all, key=lambda i: len(at_once.conversation(i)))
    later = Shelf()
    for post in posts(load("default")):
        later.add(post, later=True)
    assert later.conversation(root) == at_once.conversation(root)
    assert len(later.conversation(root)) > 3


def test_who_follows_is_the_same_from_both_sides() -> None:
    people = TasteCommunity(load("default"), 1, "explorer_bot").people
    accounts = [int(i) for i in people.ids]
    by_column = {(follower, p.id) for p in people.members for follower in people.followers(p.id)}
    by_row = {(account, followed) for account in accounts for followed in people.following(account)}
    assert by_row == by_column
    assert {(accounts[i], people.members[j].id) for i, j in zip(*people.follows.nonzero(), strict=True)} == by_column


def test_a_community_may_be_json(tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    file.write_text(json.dumps(load("default").model_dump(mode="json")), encoding="utf-8")
    assert load(str(file)) == load("default")
    file.write_text('{"name": "own",', encoding="utf-8")
    with pytest.raises(CommunityFileError, match=r"own\.json cannot be read as JSON: .*line 1"):
        load(str(file))
