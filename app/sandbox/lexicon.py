"""What the sandbox knows of a language: word lists, and which words carry its grammar.

One YAML file a language, in `lexicons`. They are the sandbox's own, so that no verdict on a text is one that the bot
could have looked up in a library.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

LEXICONS = Path(__file__).parent / "lexicons"

Words = Annotated[list[str], Field(min_length=1)]


class LexiconError(ValueError):
    """A language that has no word lists, or wrong ones. The message names file, field, value and remedy."""


class Lexicon(BaseModel):
    """The word lists of one language. Entries are words, or phrases of several words, in lower case.

    Attributes:
        capitals: what a capital marks within a sentence: the name of something, or any noun.
        this: stands for what a text is about, where it has no word of its own.
        endings: by which a word without a class of its own is told, the first that fits.
        contractions: how words are shortened, to the class that the second half belongs to.
        grammar: words that carry the grammar, by what they do.
        prose: plain sentences, as they are written, that show how the language goes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    capitals: Literal["names", "nouns"]
    this: str
    first_person: Words
    warmth: Words
    hedging: Words
    certainty: Words
    reasoning: Words
    stock_phrases: Words
    hostility: Words
    endings: Words
    contractions: dict[str, str]
    grammar: Annotated[dict[str, Words], Field(min_length=1)]
    prose: Words


def languages() -> list[str]:
    """Languages that have word lists, by their codes."""
    return sorted(file.stem for file in LEXICONS.glob("*.yaml"))


@lru_cache(maxsize=8)
def lexicon(language: str) -> Lexicon:
    """The word lists of a language.

    Raises:
        LexiconError: there are none, or a field of them is unknown, missing or wrong.
    """
    path = LEXICONS / f"{language}.yaml"
    if not path.is_file():
        raise LexiconError(f"there is no lexicon {path.name}; known languages: {', '.join(languages())}")
    raw: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=safe_loader())  # noqa: S506
    try:
        return Lexicon.model_validate(raw)
    except ValidationError as error:
        raise LexiconError(wrong_fields(path, error)) from None


def wrong_fields(path: Path, error: ValidationError) -> str:
    """What is wrong with a file, a line to a field."""
    lines = [
        f"{'.'.join(map(str, item['loc'])) or '(the whole)'}: got {str(item['input'])[:80]!r}; {item['msg']}"
        for item in error.errors(include_url=False)
    ]
    return f"{path} has {len(lines)} wrong field(s):\n  " + "\n  ".join(lines)


def safe_loader() -> type[yaml.SafeLoader]:
    # libyaml reads a community in a tenth of the time, where PyYAML was built with it.
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)
