"""Counting duplicates in the sandbox's record: what the demo fails on."""

from __future__ import annotations

from typing import Any

from app.local.observer import Write, duplicates


def write(**changes: Any) -> Write:
    return Write(**{"kind": "post", "text": "a", "target": None, "status": 201, "x_post_id": "1", **changes})


def test_different_posts_are_no_duplicates() -> None:
    assert duplicates([write(), write(text="b"), write(kind="reply", text="c", target="9")]) == 0


def test_the_same_text_is_one_whatever_its_case_and_spaces() -> None:
    assert duplicates([write(text="Hello  there"), write(text="hello there")]) == 1


def test_a_second_reply_to_the_same_post_is_one() -> None:
    replies = [write(kind="reply", text=text, target="9") for text in ("x", "y", "z")]
    assert duplicates(replies) == 2
    assert duplicates([replies[0], write(kind="quote", text="y", target="9")]) == 0


def test_what_was_refused_does_not_count() -> None:
    assert duplicates([write(), write(status=403, x_post_id=None)]) == 0
    assert duplicates([write(), write(kind="delete")]) == 0
