"""How the words of a post stand in a prompt. Light: what looks for words in prompts needs no model."""

from __future__ import annotations

import re
import unicodedata

from app.safety import FENCE, INVISIBLE
from app.text import without_addressees

LONGEST_POST = 1000  # characters of a post that are shown; long posts may have 25,000


def clean(text: str) -> str:
    """Text without invisible characters, fences and empty lines; what a reader sees stays."""
    seen = unicodedata.normalize("NFC", text)
    seen = "".join(char for char in seen if char == "\n" or unicodedata.category(char) not in INVISIBLE)
    while FENCE in seen:
        seen = seen.replace(FENCE, "'''")
    return re.sub(r"\s*\n\s*", "\n", seen).strip()


def shown(text: str) -> str:
    """What is shown of a post: not the handles in front of a reply, which X's own apps hide, too.

    Shown them, SmolLM2-135M began one reply in ten with a stranger's handle. Idempotent.

    >>> shown("@ada @bob Not so sure.")
    'Not so sure.'
    >>> shown("@ada")
    '@ada'
    """
    seen = clean(clean(text)[:LONGEST_POST])
    return without_addressees(seen) or seen


def posts_in(prompt: str) -> set[str]:
    """The posts that stand in a rendered prompt, as they are shown; prompts of version 2 showed the handles.

    >>> sorted(posts_in('Ada posted:\\n\"\"\"\\nhello\\n\"\"\"\\nBob posted:\\n\"\"\"\\nno\\n\"\"\"\\nReply to Bob.'))
    ['hello', 'no']
    """
    return {shown(part) for part in prompt.split(FENCE)[1::2]}
