"""The community: the same whatever the order of requests, with a taste that can be measured."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from app.sandbox import reactions
from app.sandbox.community import Draft, TasteCommunity
from app.sandbox.communityfile import CommunityFileError, load
from app.sandbox.posts import Post, snowflake
from app.sandbox.traits import TRAITS, Subject, measure

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
GOOD = "I counted 14 swifts at our mill in Leipzig, because nobody touched the roof. Thank you for this."
DULL = "Everything is connected to everything in some way."


@pytest.fixture(scope="module")
def community() -> TasteCommunity:
    return TasteCommunity(load("default"), 1, "explorer_bot")


def posts(seed: int, *steps: timedelta) -> list[Post]:
    made = TasteCommunity(load("default"), seed, "explorer_bot")
    return [post for step in steps for post in made.posts_until(START, START + step)]


def bird_post(community: TasteCommunity) -> Post:
    author = next(p for p in community.people.members if p.handle == "noctuary")
    return Post(
        snowflake(START, 1),
        author.id,
        "Counted 37 swifts at the brewery roof tonight. Last year it was 12.",
        topic="birds",
    )


def test_posts_do_not_depend_on_when_one_asks() -> None:
    at_once = posts(1, timedelta(hours=30))
    piecemeal = posts(
        1, timedelta(minutes=5), timedelta(hours=3), timedelta(hours=3), timedelta(hours=29.5), timedelta(hours=30)
    )
    assert at_once == piecemeal
    assert [p.text for p in posts(2, timedelta(hours=30))] != [p.text for p in at_once]


def test_members_post_a_mixture_with_thousands_of_texts() -> None:
    written = posts(1, timedelta(days=10))
    texts = {post.text for post in written if post.kind != "repost"}
    assert len(texts) > 3000
    shares = {
        s: sum(p.substance == s for p in written) / len(written) for s in ("news", "idea", "talk", "empty", "question")
    }
    assert all(share > 0.02 for share in shares.values()), shares
    kinds = {kind: sum(post.kind == kind for post in written) for kind in ("post", "reply", "repost")}
    assert all(kinds.values()), kinds
    by_id = {post.id: post for post in written}
    for post in written:
        if post.kind == "reply":
            assert post.target is not None
            assert post.target < post.id
            assert by_id[post.target].author == post.target_author
            assert by_id[post.root].kind != "reply"
    assert all("{" not in post.text for post in written)


def test_nobody_posts_on_held_out_topics() -> None:
    held_out = set(load("default").held_out)
    assert held_out
    assert not held_out & {post.topic for post in posts(1, timedelta(days=3))}


def test_truth_is_the_mean_of_what_happens(community: TasteCommunity) -> None:
    parent = bird_post(community)
    truth = community.truth(Draft(GOOD, "reply", parent))
    totals = []
    for seed in range(300):
        other = TasteCommunity(community.file, seed, "explorer_bot")
        other.people, other.fluency = community.people, community.fluency
        post = Post(snowflake(START, 2), 1000001, GOOD, kind="reply", target=parent.id, target_author=parent.author)
        earned = other.react(post, parent, [], {})
        end = (post.at + timedelta(hours=24)).timestamp() * 1000
        answers = [a for a in earned.written if a.at.timestamp() * 1000 <= end]
        totals.append(earned.likes.count(int(end)) + 2 * earned.reposts.count(int(end)) + len(answers))
    error = np.std(totals) / np.sqrt(len(totals))
    assert np.mean(totals) == pytest.approx(truth.engagement, abs=3.5 * error)
    assert truth.engagement > 3


def test_truth_has_no_noise_and_tells_good_from_dull(community: TasteCommunity) -> None:
    parent = bird_post(community)
    good, dull = (community.truth(Draft(text, "reply", parent)) for text in (GOOD, DULL))
    assert community.truth(Draft(GOOD, "reply", parent)) == good
    assert good.engagement > 3 * dull.engagement
    assert set(good.traits) == set(TRAITS)


@pytest.mark.parametrize(
    "text",
    [
        "Sterbaade PARTN-12 DKAL-210 vekt olmar stren",
        "swifts swifts swifts swifts swifts swifts roof roof roof roof",
        "roof the of swifts counted because mill 14 our in I at touched thank nobody",
        "ridership council swift storage museum line bread kelp window orbit",
        "the the the of of and and is is is a a",
        "!!!!!! 12 14 ????",
        "",
    ],
)
def test_nonsense_earns_nothing(community: TasteCommunity, text: str) -> None:
    assert community.truth(Draft(text, "reply", bird_post(community))).engagement < 0.05


def test_shuffled_words_earn_next_to_nothing(community: TasteCommunity) -> None:
    shuffler = random.Random(1)
    texts = [community.texts.on_topic(topic, "ideas", i) for topic in community.file.topics for i in range(8)]
    shuffled = [" ".join(shuffler.sample(text.split(), len(text.split()))) for text in texts]
    assert np.mean([community.fluency.score(text) for text in texts]) > 0.95
    assert np.mean([community.fluency.score(text) for text in shuffled]) < 0.1


def test_copies_and_crowding_lose_reach(community: TasteCommunity) -> None:
    parent = bird_post(community)
    fresh = community.truth(Draft(GOOD, "reply", parent))
    copied = community.truth(Draft(GOOD, "reply", parent), [GOOD.replace("14", "15")])
    other = community.truth(Draft(GOOD, "reply", parent), ["A kiln under the car park, with bread still in it."])
    assert copied.engagement < 0.4 * fresh.engagement
    assert other.engagement == fresh.engagement


def test_hostility_is_blocked_and_answered_in_anger(community: TasteCommunity) -> None:
    parent = bird_post(community)
    hostile = "You people are idiots and liars, the swifts left because your stupid town is garbage."
    kind = "The swifts left because your old town lost its roofs, and the new ones have no holes."
    post = Post(snowflake(START, 2), 1000001, hostile, kind="reply", target=parent.id, target_author=parent.author)
    earned = community.react(post, parent, [], {})
    truth, mild = (community.truth(Draft(text, "reply", parent)) for text in (hostile, kind))
    assert truth.negative_share > 0.8 > mild.negative_share
    assert truth.likes < 0.4 * mild.likes
    assert 3 < len(earned.blocks.users) < 0.06 * earned.views  # a few in a hundred of those who see it
    blocked = dict(zip(earned.blocks.users, earned.blocks.times, strict=True))
    later = Post(snowflake(START + timedelta(days=2), 3), 1000001, GOOD)  # an answer would be too late for its parent
    before, after = community.react(later, None, [], {}), community.react(later, None, [], blocked)
    assert set(after.likes.users) == set(before.likes.users) - set(blocked) < set(before.likes.users)


def test_answers_carry_a_stance_that_the_text_shows(community: TasteCommunity) -> None:
    parent = bird_post(community)
    answers = []
    for number in range(60):
        post = Post(
            snowflake(START, 2),
            1000001,
            f"{GOOD} {number}",
            kind="reply",
            target=parent.id,
            target_author=parent.author,
        )
        answers += community.react(post, parent, [], {}).written
    assert {answer.stance for answer in answers} == {-1, 1}
    assert {answer.kind for answer in answers} == {"reply", "quote"}
    assert all(answer.text.startswith("@explorer_bot ") for answer in answers if answer.kind == "reply")
    assert all("{" not in answer.text for answer in answers)


def test_delays_have_the_median_of_the_file(community: TasteCommunity) -> None:
    assert reactions.share_arrived(80, community.file.growth) == pytest.approx(0.5)
    assert reactions.share_arrived(0, community.file.growth) == 0
    assert reactions.share_arrived(24 * 60, community.file.growth) > 0.99


def test_every_trait_moves_and_stays_between_0_and_1() -> None:
    subject = Subject("Counted 37 swifts at the brewery roof tonight.", frozenset({"swifts", "roof"}))
    shown = {
        "relevance": "Swifts on a roof.",
        "concreteness": "In 2019 Leipzig counted 37 lapwings.",
        "question": "How many were there?",
        "first_person": "I think we saw our own.",
        "warmth": "Thank you, this is lovely.",
        "hedging": "Perhaps it might be so.",
        "certainty": "It is obviously so, and it always was.",
        "reasoning": "It is so because it was dry.",
        "stock_phrases": "A fascinating journey and a testament to resilience.",
        "hostility": "You are an idiot.",
        "brevity": "Short and plain as a post can be.",
        "finished": "It ends.",
        "echo": "Counted 37 swifts at the brewery roof tonight.",
        "hashtags": "Look #birds",
        "exclamation": "Look!",
    }
    assert set(shown) == set(TRAITS)
    nothing = measure("zzz", subject, "en")
    for name, text in shown.items():
        values = measure(text, subject, "en")
        assert values[name] > nothing[name], name
        assert all(0 <= value <= 1 for value in values.values())


def test_a_wrong_file_is_one_message_that_names_the_field(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    shipped = Path(reactions.__file__).parent / "communities" / "default.yaml"
    file.write_text(
        shipped.read_text()
        .replace("relevance: 3.6", "charm: 2.0")
        .replace("  median_minutes: 80", "  median_minutes: -1")
    )
    with pytest.raises(CommunityFileError, match=r"growth\.median_minutes: got '-1'"):
        load(str(file))
    file.write_text(shipped.read_text().replace("relevance: 3.6", "charm: 2.0"))
    with pytest.raises(CommunityFileError, match="unknown traits \\['charm'\\]"):
        load(str(file))
    file.write_text(shipped.read_text().replace("language: en", "language: tlh"))
    with pytest.raises(CommunityFileError, match=r"language: got 'tlh'; .*known languages: (\w+, )*en"):
        load(str(file))
    with pytest.raises(CommunityFileError, match="shipped ones: default"):
        load("nowhere")
