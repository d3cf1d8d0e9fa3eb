"""Which posts are not learnt from. Pure functions of one post; likeness to others is `app/data/near.py`."""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import StrEnum

from app.data.records import SourcePost
from app.personal_data import has_personal_data
from app.text import MENTION, URL, has_link

# What X says where a text is in no language: https://docs.x.com/x-api/fundamentals/data-dictionary
NO_LANGUAGE = {"und", "zxx", "art", "qam", "qct", "qht", "qme", "qst"}
REPOST = re.compile(r"^RT @[A-Za-z0-9_]{1,15}:")
WORD = re.compile(r"[^\W_]+")


class Dropped(StrEnum):
    """Why a post is not in the data set; the first that holds."""

    REPOST = "repost"
    BARE_LINK = "bare_link"
    NO_WORDS = "no_words"
    NO_LANGUAGE = "no_language"
    OTHER_LANGUAGE = "other_language"
    PERSONAL_DATA = "personal_data"
    FORGOTTEN = "forgotten"
    NEAR_DUPLICATE = "near_duplicate"


def reason_to_drop(post: SourcePost, languages: Collection[str]) -> Dropped | None:
    """The first reason against a post, None if there is none.

    Args:
        languages: those that are kept; every one if it is empty. A post of which the source does not say is kept.
    """
    if post.reposted or REPOST.match(post.text):
        return Dropped.REPOST
    if not WORD.search(MENTION.sub(" ", URL.sub(" ", post.text))):
        return Dropped.BARE_LINK if has_link(post.text) else Dropped.NO_WORDS
    if languages and post.lang in NO_LANGUAGE:
        return Dropped.NO_LANGUAGE
    if languages and post.lang is not None and post.lang not in languages:
        return Dropped.OTHER_LANGUAGE
    if has_personal_data(post.text) or has_personal_data(post.parent_text or ""):
        return Dropped.PERSONAL_DATA
    return None
