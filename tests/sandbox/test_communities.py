"""The shipped communities: each whole, and with tastes that really differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import wordfreq

from app.sandbox import lexicon as lexicons
from app.sandbox.community import Draft, TasteCommunity, Truth
from app.sandbox.communityfile import FOLDER, CommunityFile, load
from app.sandbox.lexicon import LexiconError, languages, lexicon
from app.sandbox.posts import Post, snowflake
from app.sandbox.texts import HOLE
from app.sandbox.traits import Subject, measure, salient
from app.text import MAX_WEIGHTED_LENGTH, weighted_length

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
SHIPPED = sorted(file.stem for file in FOLDER.glob("*.yaml"))
ENGLISH = [name for name in SHIPPED if load(name).language == "en"]
BOT = "explorer_bot"

WARM = "Oh, thank you, I love this so much!"
MEASURED = (
    "That probably depends on the base rate, because 12 of 40 is about 30%, although a second count in 2024 might "
    "have given somewhat less than the 25% that was expected, unless the first one missed some."
)
FURIOUS = "You clowns are always wrong, what a disgrace!"
CAREFUL = "Perhaps it was only a mistake, and thank you for asking, maybe it seems different next year."

# One draft of each manner that a small model has, with a place for a word of the topic.
MANNERS = {
    "en": [
        "It's great to see {} getting the attention that it deserves.",
        "{} is an important part of our lives, and we should all take a moment to appreciate it.",
        "That's a fascinating story about {}, and a testament to the power of community.",
        "I saw the same thing with {} in Lisbon in 2019, when 40 people came.",
        "About 30% of it was gone after 14 days, says the council of Bristol.",
        "Thank you for sharing this, I love it!",
        "I hope you enjoy {} with your friends tonight.",
        "How did {} change after that?",
        "Who pays for {}, and why did nobody ask about the price?",
        "It might be the weather, because {} was there before, but nobody measured it.",
        "Perhaps 12 of 40 is more than I would have guessed, unless {} was counted twice.",
        "Obviously {} was wrong from the start, and it always will be!",
        "There is no excuse for {}, everyone knows that.",
        "The smell of {} in the morning is the best thing about this place.",
        "Here is a short reply: it is good.",
        "We went there yesterday and it was closed, so we had tea in the rain and talked to the driver.",
    ],
    "de": [
        "Es ist schön zu sehen, dass {} endlich die Aufmerksamkeit bekommt.",
        "{} ist ein wichtiger Teil unseres Lebens, und wir sollten das alle mehr schätzen.",
        "Das ist eine faszinierende Geschichte über {} und zeigt, wie viel Gemeinschaft bewirken kann.",
        "Ich habe das Gleiche 2019 in Linz gesehen, als 40 Leute wegen {} kamen.",
        "Nach 14 Tagen waren rund 30 % davon weg, sagt die Gemeinde.",
        "Danke fürs Teilen, ich liebe so etwas!",
        "Viel Spaß heute Abend mit deinen Freunden und {}.",
        "Wie ging es danach mit {} weiter?",
        "Wer bezahlt {}, und warum hat keiner nach dem Preis gefragt?",
        "Vielleicht liegt es am Wetter, weil {} schon vorher da war, aber das hat niemand gemessen.",
        "Ich glaube, 12 von 40 ist mehr, als man gedacht hätte, außer {} wurde doppelt gezählt.",
        "Natürlich war {} von Anfang an falsch, und das wird immer so bleiben!",
        "Dafür gibt es keine Ausrede, das muss jeder wissen.",
        "Der Geruch von {} am Morgen ist das Beste an diesem Ort.",
        "Hier ist eine kurze Antwort: Das ist gut.",
        "Gestern war dort zu, also haben wir im Regen Tee getrunken und mit dem Fahrer geredet.",
    ],
}


@cache
def community(name: str) -> TasteCommunity:
    return TasteCommunity(load(name), 1, BOT)


@cache
def day(name: str, seed: int = 1) -> tuple[Post, ...]:
    made = TasteCommunity(load(name), seed, BOT)
    return tuple(made.posts_until(START, START + timedelta(hours=23)))


def parent(name: str, topic: str | None = None) -> Post:
    """A post by a member of middling reach."""
    members = sorted(community(name).people.members, key=lambda person: person.pull)
    chosen = topic or next(iter(community(name).file.topics))
    text = community(name).texts.on_topic(chosen, "ideas", 1)
    return Post(snowflake(START, 1), members[len(members) // 2].id, text, topic=chosen)


def truth(name: str, text: str) -> Truth:
    return community(name).truth(Draft(text, "reply", parent(name)))


def templates(file: CommunityFile) -> Iterator[str]:
    for topic in (*file.topics.values(), *file.held_out.values()):
        yield from (*topic.news, *topic.ideas, *topic.questions)
    yield from (*file.small_talk, *file.replies_between_members)
    for stance in (file.answers, file.quotes):
        yield from (*stance.positive, *stance.negative)


def longest(template: str, *slots: dict[str, list[str]], **given: str) -> str:
    """A template with the longest filling of every hole."""

    def value(name: str) -> str:
        if ".." in name:
            return name.split("..")[1]
        if name in given:
            return given[name]
        return max(next(options[name] for options in slots if name in options), key=len)

    return HOLE.sub(lambda hole: value(hole.group(1)), template)


def test_five_are_shipped_and_one_is_not_in_english() -> None:
    assert len(SHIPPED) >= 5
    assert {load(name).language for name in SHIPPED} >= {"en", "de"}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_community_is_whole(name: str) -> None:
    file = load(name)
    assert file.name == name
    assert len(file.members) >= 20
    assert all(member.bio and member.location and member.interests for member in file.members)
    assert len(file.topics) >= 9
    assert len(file.held_out) >= 4
    for topic in (*file.topics.values(), *file.held_out.values()):
        assert len(set(topic.words)) >= 20, topic.about
        assert topic.news, topic.about
    for label, topic in file.topics.items():
        assert len(topic.news) >= 5, label
        assert len(topic.ideas) >= 6, label
        assert len(topic.questions) >= 3, label
        assert max(member.interests.get(label, 0.0) for member in file.members) == 1.0, label
    assert len(file.answers.positive) >= 8
    assert len(file.answers.negative) >= 8
    assert min(len(file.quotes.positive), len(file.quotes.negative)) >= 4
    assert all(text.strip() for text in templates(file))


@pytest.mark.parametrize("name", SHIPPED)
def test_no_text_can_become_too_long(name: str) -> None:
    file = load(name)
    opener, closer = (max(file.common[part], key=len) for part in ("opener", "closer"))
    word = max((word for topic in file.topics.values() for word in topic.words), key=len)
    about = max((topic.about for topic in file.topics.values()), key=len)
    texts = [
        opener + longest(template, topic.slots, file.common) + closer
        for topic in (*file.topics.values(), *file.held_out.values())
        for template in (*topic.news, *topic.ideas, *topic.questions)
    ]
    texts += [longest(text, file.common, about=about) for text in (*file.small_talk, *file.empty)]
    texts += [
        f"@{'x' * 15} {longest(text, file.common, word=word)}"
        for text in (
            *file.replies_between_members, *file.answers.positive, *file.answers.negative, *file.quotes.positive,
            *file.quotes.negative,
        )
    ]  # fmt: skip
    too_long = [text for text in texts if weighted_length(text) > MAX_WEIGHTED_LENGTH]
    assert not too_long


def test_no_community_says_what_another_says() -> None:
    said = {name: {text.casefold() for text in templates(load(name)) if len(text) > 30} for name in SHIPPED}
    for one, other in combinations(SHIPPED, 2):
        assert not said[one] & said[other], (one, other)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_day_has_few_literal_repeats_and_is_the_same_again(name: str) -> None:
    posts = day(name)
    ideas = [post.text for post in posts if post.substance == "idea" and post.kind == "post"]
    assert len(ideas) > 40
    assert len(set(ideas)) > 0.9 * len(ideas)
    # Everybody who passes a story on says the same, which is what stories are.
    meant = [post.text for post in posts if post.kind != "repost" and post.substance in {"idea", "news", "question"}]
    assert len(set(meant)) > 0.7 * len(meant)
    assert set(community(name).file.topics) == {post.topic for post in posts if post.topic}
    again = TasteCommunity(load(name), 1, BOT)
    assert tuple(again.posts_until(START, START + timedelta(hours=23))) == posts
    assert day(name, seed=2) != posts


@pytest.mark.parametrize("name", SHIPPED)
def test_its_own_language_is_fluent_and_shuffled_it_is_not(name: str) -> None:
    own, judge = community(name), community(name).fluency
    heard = [own.texts.on_topic(topic, "ideas", i) for topic in own.file.topics for i in range(3)]
    unheard = [
        own.texts.on_topic(topic, kind, i) for topic in own.file.held_out for kind in ("news", "ideas") for i in (0, 1)
    ]
    order = np.random.default_rng(1)
    shuffled = [" ".join(order.permutation(text.split())) for text in heard]
    assert np.mean([judge.score(text) for text in heard]) > 0.95
    assert np.mean([judge.score(text) for text in unheard]) > 0.85
    # Where sentences have three words, a shuffled one may come out as another sentence.
    assert np.mean([judge.score(text) for text in shuffled]) < 0.2


@cache
def earned(name: str) -> npt.NDArray[np.float64]:
    """Likes of replies, by topic (rows) and manner of writing (columns)."""
    own = community(name)
    rows = []
    for topic in (*own.file.topics, *own.file.held_out):
        post = parent(name, topic)
        word = salient(post.text, own.file.language, {w.lower(): w for w in own.texts.topics[topic].words}) or "x"
        texts = [manner.format(word) for manner in MANNERS[own.file.language]]
        found = [own.truth(Draft(text[0].upper() + text[1:], "reply", post)) for text in texts]
        # What is no language earns nothing anywhere, and would pass for a taste.
        assert np.mean([each.fluency > 0.5 for each in found]) > 0.9
        rows.append([each.likes for each in found])
    return np.array(rows)


@pytest.mark.parametrize("name", SHIPPED)
def test_manners_of_writing_earn_very_different_amounts(name: str) -> None:
    ranked = np.sort(earned(name), axis=None)
    quarter = len(ranked) // 4
    assert ranked[-quarter:].mean() > 3 * ranked[:quarter].mean()
    assert ranked.mean() == pytest.approx(community(name).file.audience.reply, rel=0.5)


def test_the_warm_and_the_exact_disagree_about_most_pairs() -> None:
    hearth, odds = (earned(name).mean(axis=0) for name in ("hearth", "odds"))
    pairs = list(combinations(range(len(hearth)), 2))
    opposite = [(hearth[i] - hearth[j]) * (odds[i] - odds[j]) < 0 for i, j in pairs]
    assert np.mean(opposite) > 0.6


def test_the_warm_and_the_exact_rank_the_same_pair_in_opposite_order() -> None:
    assert truth("hearth", WARM).engagement > 3 * truth("hearth", MEASURED).engagement
    assert truth("odds", MEASURED).engagement > 3 * truth("odds", WARM).engagement


def test_the_furious_and_the_careful_rank_the_same_pair_in_opposite_order() -> None:
    assert truth("uproar", FURIOUS).engagement > 3 * truth("uproar", CAREFUL).engagement
    assert truth("odds", CAREFUL).likes > 3 * truth("odds", FURIOUS).likes


@pytest.mark.parametrize("name", [name for name in ENGLISH if name != "uproar"])
def test_outrage_earns_in_one_community_and_costs_in_the_others(name: str) -> None:
    plain = "It was late again, and nobody said a word about it."
    outraged = "It was late again, you clowns, and nobody said a word about it."
    assert measure(outraged, Subject(), "en")["hostility"] > 0.6
    assert truth("uproar", outraged).likes > 2 * truth("uproar", plain).likes
    assert truth(name, outraged).likes < 0.5 * truth(name, plain).likes
    assert truth("uproar", outraged).negative_share < 0.5 < truth(name, outraged).negative_share
    assert load("uproar").hostility.block_chance < 0.5 * load(name).hostility.block_chance


def test_only_the_outraged_are_hostile_themselves() -> None:
    mean = {}
    for name in SHIPPED:
        language = community(name).file.language
        mean[name] = np.mean([measure(post.text, Subject(), language)["hostility"] for post in day(name)])
    assert mean.pop("uproar") > 0.15
    assert all(value < 0.02 for value in mean.values()), mean


def test_each_language_is_nonsense_to_the_other() -> None:
    german, english = "feierabend", "default"
    for here, there in ((german, english), (english, german)):
        texts = [community(here).texts.on_topic(topic, "ideas", i) for topic in load(here).topics for i in range(3)]
        assert np.mean([community(here).fluency.score(text) for text in texts]) > 0.95
        assert np.mean([community(there).fluency.score(text) for text in texts]) < 0.1
    assert community(german).fluency.score("Ich habe gestern drei Igel im Hof gezählt, und einer schlief.") > 0.9
    for text in (
        "It is great to see so many people in the garden today.",
        "How did the Pfifferlinge change after that?",
        "The Hütte near the bridge was built in 1911 from granite and oak.",
    ):
        assert community(german).fluency.score(text) < 0.1, text
    assert community(german).fluency.score("Hof der gezählt und ich einer gestern Igel schlief im drei") < 0.3


def test_german_nouns_keep_their_capital_and_are_not_taken_for_names() -> None:
    text = "Gestern lief der Motor wieder, schuld war ein loser Draht."
    assert salient(text, "de", {"draht": "Draht"}) == "Draht"
    assert salient(text, "de") in {"Motor", "Draht"}
    assert salient("Es war alles ziemlich anders.", "de") is None
    assert measure(text, Subject(), "de")["concreteness"] == measure(text.lower(), Subject(), "de")["concreteness"]
    english = "Yesterday we saw it with Ada in Leipzig."
    assert measure(english, Subject(), "en")["concreteness"] > measure(english.lower(), Subject(), "en")["concreteness"]
    name = "feierabend"
    words = {word for topic in load(name).topics.values() for word in topic.words if word[0].isupper()}
    replies = [post.text for post in day(name) if post.kind == "reply"]
    assert sum(any(word in reply for word in words) for reply in replies) > 0.3 * len(replies)


@pytest.mark.parametrize("language", languages())
def test_a_lexicon_covers_the_words_that_carry_the_grammar(language: str) -> None:
    known = lexicon(language)
    classes = Counter(word for words in known.grammar.values() for word in set(words))
    common = [word for word in wordfreq.top_n_list(language, 100) if word.isalpha() and len(word) > 1]
    missing = [word for word in common if word not in classes]
    assert len(missing) < 0.15 * len(common), missing
    for entries in (known.first_person, known.warmth, known.hedging, known.certainty, known.reasoning):
        assert len(entries) >= 15
        assert all(entry == entry.lower() for entry in entries)
    assert len(known.hostility) >= 40
    assert set(known.contractions.values()) <= set(known.grammar)
    assert len(known.prose) >= 50


def test_a_lexicon_with_a_wrong_field_is_refused_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    english = (lexicons.LEXICONS / "en.yaml").read_text(encoding="utf-8")
    (tmp_path / "zz.yaml").write_text(english.replace("one, two, three]", "one, two, off]"), encoding="utf-8")
    monkeypatch.setattr(lexicons, "LEXICONS", tmp_path)
    with pytest.raises(LexiconError, match=r"grammar\.a\.\d+: got 'False'"):
        lexicon("zz")
    with pytest.raises(LexiconError, match=r"there is no lexicon yy\.yaml; known languages: zz"):
        lexicon("yy")
