"""What X counts and compares in a text."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.text import canonical, fits, mentions, similarity, text_hash, weighted_length, without_addressees

PUBLISHED = yaml.safe_load((Path(__file__).parent / "twitter_text_cases.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case["what"])
def test_length_is_what_twitter_text_publishes(case: dict[str, Any]) -> None:
    text = "".join(part if isinstance(part, str) else part[0] * part[1] for part in case["text"])
    assert len(text.encode("utf-16-le")) // 2 - 1 == case["end"], "the case itself is written down wrong"
    assert weighted_length(text) == case["length"]
    assert fits(text) is case["valid"]


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("hello", 5),
        ("日本", 4),
        ("https://example.com/a/very/long/path?with=query", 23),
        ("👩‍👩‍👧‍👦", 2),
        ("e\u0301", 1),  # NFC first
    ],
)
def test_weighted_length(text: str, length: int) -> None:
    assert weighted_length(text) == length


def test_the_limit() -> None:
    assert fits("a" * 280)
    assert not fits("a" * 281)
    assert not fits("日" * 141)
    assert not fits("  \n")


def test_mentions_are_handles_only() -> None:
    assert mentions("hi @NASA, mail me at a@b.com or see @a_b.") == ["nasa", "a_b"]


def test_what_comes_back_from_x_is_recognised() -> None:
    sent = "Cats & dogs: https://example.com/page  together"
    back = "Cats &amp; dogs: https://t.co/abc123 together"
    assert canonical(sent) == canonical(back)
    assert text_hash(sent) == text_hash(back)


@pytest.mark.parametrize(
    ("sent", "back"),
    [
        ("So it is at example.com/tonight, they say", "So it is at https://t.co/abc123, they say"),
        ("http://localhost/page and no more", "http://localhost/page and no more"),
        ("Written &amp; out", "Written &amp;amp; out"),
        ("R&para without a semicolon", "R&amp;para without a semicolon"),
    ],
)
def test_links_without_a_scheme_and_entities_of_ones_own_are_recognised(sent: str, back: str) -> None:
    assert canonical(sent) == canonical(back)


@given(st.text(alphabet=st.sampled_from("&;#<>amplt3qo .x")) | st.text())
def test_whatever_x_escapes_is_recognised(text: str) -> None:
    assert canonical(html.escape(text, quote=False)) == canonical(text)


@given(st.text(), st.text())
def test_similarity_is_symmetric_and_bounded(left: str, right: str) -> None:
    assert 0 <= similarity(left, right) <= 1
    assert similarity(left, right) == similarity(right, left)


@given(st.text(min_size=1).filter(lambda text: bool(canonical(text))))
def test_a_text_is_like_itself(text: str) -> None:
    assert similarity(text, text) == 1


@given(st.text())
def test_canonical_is_stable(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text) or "&" in text


@pytest.mark.parametrize(
    ("text", "rest"),
    [("@ann @bob so it is", "so it is"), ("so it is, @ann", "so it is, @ann"), ("mail a@b.c", "mail a@b.c")],
)
def test_addressees_are_what_stands_in_front(text: str, rest: str) -> None:
    assert without_addressees(text) == rest
