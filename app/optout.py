"""Whoever asks the bot to stop is left alone: at once and for ever (https://help.x.com/en/rules-and-policies/x-automation).

The request is told by plain patterns, which err towards stopping: a community loses little by one silence too many.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import structlog
from sqlalchemy.orm import Session

from app import events
from app.text import without_addressees
from app.x.types import Tweet
from dbs.models import Membership

log = structlog.get_logger()

# Said and nothing else: "@bot stop", "Please stop!", "stop it, bot".
WHOLE = re.compile(
    r"""\W*(?:please\W+|bitte\W+|por\s+favor\W+)?
    (?: stop(?:\s+(?:it|this|that|now))? | unsubscribe | opt(?:\s|-)?out | go\s+away | get\s+lost
      | no\s+(?:more\s+)?bots? | stopp | h(?:ö|oe)r\s+auf | lass\s+(?:das|mich)
      | para(?:\s+ya)? | basta | arr(?:ê|e)tez? )
    (?:\W+(?:please|bitte|now|bot|already|asking|me|thanks|thank\s+you|s['’]il\s+(?:te|vous)\s+pla(?:î|i)t))*\W*""",
    re.IGNORECASE | re.VERBOSE,
)
# Said anywhere: what the bot is to stop doing, or whom it is to leave alone.
ANYWHERE = re.compile(
    r"""\b(?: (?:stop|quit)\s+(?:reply|respond|answer|tagg?|mention|messag|bother|spam+|annoy|quot|follow)\w*
      | (?:stop|quit)\s+talking\s+(?:to|at|with)\s+(?:me|us)
      | (?:do\s+not|don['’]?t|never)\s+(?:reply|respond|answer|tag|mention|message|bother|spam|annoy|talk|quote)\b
          (?:\s+(?:to|at|with))?\s+(?:me|my|us)\b
      | leave\s+(?:me|us)\s+alone
      | (?:stop|hör)\s+(?:mir|mich|uns)\b | lass(?:t)?\s+(?:mich|uns)\s+in\s+ruhe
      | d(?:é|e)ja(?:me|nos)\s+en\s+paz | laisse[sz]?(?:-|\s)(?:moi|nous)\s+tranquilles? )\b""",
    re.IGNORECASE | re.VERBOSE,
)


def asks_to_stop(text: str) -> bool:
    """Whether a post that addresses the bot asks it to stop.

    >>> [asks_to_stop(text) for text in ("@explorer_bot stop", "Please stop replying to me.", "Leave me alone!")]
    [True, True, True]
    >>> [asks_to_stop(text) for text in ("@explorer_bot The tram stop is closed.", "Do not stop now, go on!")]
    [False, False]
    """
    said = without_addressees(text).strip()
    return WHOLE.fullmatch(said) is not None or ANYWHERE.search(said) is not None


def honour(session: Session, bot_id: str, addressing: Iterable[Tweet]) -> None:
    """Leave alone whoever asks for it. `app/conduct.py` and the outbox look at what is noted here.

    Args:
        addressing: new posts that address the bot, by users who are known to it.
    """
    for tweet in addressing:
        if asks_to_stop(tweet.text):
            member = session.get_one(Membership, (bot_id, tweet.author_id), with_for_update=True)
            if member.opted_out_at is None:
                member.opted_out_at = tweet.created_at
                events.record(session, bot_id, "member.opted_out", tweet.author_id, post=tweet.x_post_id)
                log.info("member.opted_out", user_id=tweet.author_id, x_post_id=tweet.x_post_id)
