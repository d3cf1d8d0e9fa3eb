"""What may be said. Pure functions of texts; to whom and how often is `app/conduct.py`.

Whatever the model writes is checked as if an enemy had written it: it has read posts that strangers wrote.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.config import SafetyConfig
from app.language import chance_of
from app.offence import offensiveness
from app.personal_data import has_personal_data
from app.text import (
    MAX_WEIGHTED_LENGTH,
    canonical,
    mentions,
    runs,
    shingles,
    similarity,
    text_hash,
    weighted_length,
)
from dbs.states import Kind

# Part of what a draft's approval means: raise it with every change of a rule.
FILTER_VERSION = "7"

FENCE = '"""'  # how prompts mark where a post begins and ends; no post of ours holds one
OTHER_LANGUAGE = 0.01  # a lower chance of being in an allowed language refuses a draft; why so low: app/language.py
ECHO_WORDS = 4  # words of a post answered that a reply must have beside its own to be compared with it
ECHO_RUN = 8  # words in a row that are no accident
TELLING = 6  # letters of a word that says what a reply of few words is about

PREAMBLE = re.compile(
    r"""^\W*(?:
      (?:sure|certainly|of\ course|absolutely|okay|ok)\b[\s,!.:-]*
        (?:here|i['’]d|i\ can|i['’]ll|let\ me|thing|no\ problem)
    | here(?:['’]s|\ is|\ are)\ (?:a|an|my|the|your|one|some)\b[^.!?\n]{0,60}
        \b(?:post|tweet|reply|replies|response|draft|answer|quote|version|thread)s?\b
    | (?:my\ )?(?:reply|response|answer|tweet|post|quote|output|draft|assistant|user|system)\s*:
    | as\ an?\ (?:ai|artificial|language|large\ language|chat\s?bot|assistant|digital\ assistant)\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
REFUSING = re.compile(
    r"""\b(?:
      i(?:\ am|['’]m)\ (?:just\ |only\ )?an?\ (?:ai|language\ model|chatbot|virtual\ assistant|digital\ assistant)\b
    | as\ an?\ (?:ai|language\ model|large\ language\ model)\b
    | i\ (?:can['’]?t|cannot)\ (?:assist|help\ (?:you\ )?with|comply|fulfil|provide\ that|engage|write\ a|generate)
    | i(?:['’]m|\ am)\ (?:unable|not\ able)\ to\ (?:assist|help|comply|fulfil|provide|engage|write|create|generate)
    | i(?:['’]m|\ am)\ sorry,?\ (?:but\ )?i\ can(?:not|['’]?t)\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)
PROMPT_WORDS = re.compile(
    r"""<\|[a-z_]*\|?>?|\bim_(?:start|end)\b|\[/?inst\]|\b280\ characters\b|\bsystem\ prompt\b|\bthe\ post\ above\b
      |\bmy\ instructions\b|\bmy\ persona\b|\bprevious\ instructions\b""",
    re.IGNORECASE | re.VERBOSE,
)
LINK = re.compile(
    r"https?:|www\.|\b[\w-]+\.(?:com|org|net|io|co|ai|app|dev|gov|edu|info|ly|me|tv|uk|de)\b", re.IGNORECASE
)
HANDLE = re.compile(r"[@＠]\w")
QUOTES = {'"': '"', "“": "”", "'": "'", "‘": "’", "«": "»", "„": "“", "`": "`"}
# An emoji's parts may be joined by U+200D; other invisible characters have no business in a post.
JOINER, LINE_FEED = "\u200d", "\n"
INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn"}
SOURCE_OF = {Kind.REPLY: "what it answers", Kind.QUOTE: "what it quotes", Kind.POST: "what others wrote"}
REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class Refusal:
    """Why a text is not posted: the rule, and the same in words with the values."""

    rule: str
    reason: str


@dataclass(frozen=True)
class _Draft:
    """A text and all that the rules look at. `words` are those of its canonical form."""

    text: str
    kind: Kind
    finished: bool
    allowed_handles: set[str]
    recent: Sequence[str]
    safety: SafetyConfig
    sources: Sequence[str]
    instructions: Sequence[str]

    @property
    def words(self) -> list[str]:
        return _words(self.text)


def check_text(
    text: str,
    *,
    kind: Kind,
    allowed_handles: set[str],
    recent: Sequence[str],
    safety: SafetyConfig,
    source_texts: Sequence[str],
    finished: bool = True,
    instructions: Sequence[str] = (),
) -> Refusal | None:
    """The first rule that refuses a text, or None if it may be said.

    Args:
        allowed_handles: who may be mentioned, without the @, in lower case.
        recent: texts of our own that it must not repeat.
        source_texts: posts that it answers, quotes or was shown; it must not repeat them either.
        finished: whether the model ended the text itself; False if the length limit cut it off.
        instructions: sentences of the prompt that must not come out again.
    """
    draft = _Draft(text, kind, finished, allowed_handles, recent, safety, source_texts, instructions)
    for name, rule in RULES:
        reason = rule(draft)
        if reason is not None:
            return Refusal(name, reason)
    return None


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", canonical(text))


def _empty(draft: _Draft) -> str | None:
    return None if draft.words else "there is no word in it"


def _characters(draft: _Draft) -> str | None:
    for char in draft.text:
        odd = unicodedata.category(char) in INVISIBLE and char not in {JOINER, LINE_FEED}
        if odd or char == REPLACEMENT:
            return f"it holds the character U+{ord(char):04X}"
    return None


def _unfinished(draft: _Draft) -> str | None:
    return None if draft.finished else "the length limit cut it off"


def as_posted(text: str, safety: SafetyConfig) -> str:
    """A text as it goes out, with the disclosure below it where one is configured."""
    return text if safety.disclosure is None else f"{text}\n\n{safety.disclosure}"


def _too_long(draft: _Draft) -> str | None:
    length = weighted_length(as_posted(draft.text, draft.safety))
    return f"{length} weighted characters, {MAX_WEIGHTED_LENGTH} allowed" if length > MAX_WEIGHTED_LENGTH else None


def _preamble(draft: _Draft) -> str | None:
    found = PREAMBLE.match(draft.text)
    return f"it begins with {found.group()!r}" if found else None


def _refusal_phrase(draft: _Draft) -> str | None:
    found = REFUSING.search(draft.text)
    return f"it says {found.group()!r}" if found else None


def _prompt_leak(draft: _Draft) -> str | None:
    found = PROMPT_WORDS.search(draft.text)
    if found or FENCE in draft.text:
        return f"it holds {found.group() if found else FENCE!r}, which belongs to the prompt"
    plain = canonical(draft.text)
    for sentence in draft.instructions:
        if len(sentence) >= 20 and canonical(sentence) in plain:
            return f"it repeats its instructions: {sentence!r}"
    return None


def _quoted(draft: _Draft) -> str | None:
    text = draft.text.strip()
    closing = QUOTES.get(text[:1])
    if closing and len(text) > 1 and text.endswith(closing) and text.count(text[0]) <= (1 if closing != text[0] else 2):
        return f"it is wrapped in {text[0]}{closing}"
    if text[:1] in {'"', "“"} and text.count(text[0]) == 1 and QUOTES[text[0]] not in text[1:]:
        return f"it opens {text[0]} and never closes it"
    return None


def _strangers(draft: _Draft) -> str | None:
    strange = [handle for handle in mentions(draft.text) if handle not in draft.allowed_handles]
    if strange:
        return f"it mentions @{strange[0]}, who is not part of the conversation"
    if len(HANDLE.findall(draft.text)) > len(mentions(draft.text)):
        return "it holds an @ that is no handle"
    return None


def _link(draft: _Draft) -> str | None:
    found = LINK.search(draft.text)
    return f"it holds a link, {found.group()!r}" if found else None


def _hashtags(draft: _Draft) -> str | None:
    count = len(re.findall(r"[#＃]\w", draft.text))
    return f"{count} hashtags, 1 allowed" if count > 1 else None


def _blocked(draft: _Draft) -> str | None:
    padded = f" {' '.join(draft.words)} "
    for term in draft.safety.blocked_terms:
        wanted = " ".join(_words(term))
        if (wanted and f" {wanted} " in padded) or (not wanted and term in draft.text):
            return f"it holds the blocked term {term!r}"
    return None


def _personal_data(draft: _Draft) -> str | None:
    return "it holds an address or a number that belongs to a person" if has_personal_data(draft.text) else None


def _language(draft: _Draft) -> str | None:
    """What judges offence has to know the language: what it does not know it would find harmless."""
    allowed = draft.safety.languages
    chance = chance_of(allowed, draft.text)
    if chance >= OTHER_LANGUAGE:
        return None
    return f"it is in none of safety.languages={', '.join(allowed)} (the chance is {chance:.4f})"


def _offensive(draft: _Draft) -> str | None:
    found, limit = offensiveness(draft.text), draft.safety.max_offensiveness
    return f"it is offensive with probability {found:.2f}, {limit:g} is too much" if found >= limit else None


def _gibberish(draft: _Draft) -> str | None:
    """Repetition and noise that no reader takes for a sentence. What is merely dull is left to learning."""
    if run := re.search(r"(\S)\1{5,}", draft.text):
        return f"it repeats the character {run.group(1)!r}"
    words = draft.words
    letters = sum(char.isalpha() for char in draft.text)
    if letters < 0.5 * len(re.sub(r"\s", "", draft.text)):
        return "less than half of it is letters"
    if long_word := next((word for word in words if len(word) > 40), None):
        return f"it has a word of {len(long_word)} characters"
    if any(first == second == third for first, second, third in zip(words, words[1:], words[2:], strict=False)):
        return "it says one word three times in a row"
    triples = Counter(f"{a} {b} {c}" for a, b, c in zip(words, words[1:], words[2:], strict=False))
    for triple, count in triples.most_common(1):
        if count >= 3:
            return f"it says {triple!r} {count} times"
    if len(words) >= 12 and len(set(words)) < 0.4 * len(words):
        return f"{len(set(words))} different words among {len(words)}"
    return None


def _copy_of_own(draft: _Draft) -> str | None:
    return _copied(draft, draft.recent, "a recent post of ours")


def _copy_of_source(draft: _Draft) -> str | None:
    if reason := _copied(draft, draft.sources, SOURCE_OF[draft.kind]):
        return reason
    mine = shingles(draft.text)
    for source in draft.sources:
        if reason := _echo(draft.words, _words(source)):
            return f"{reason} from {source[:40]!r}"
        theirs = shingles(source)
        # Nearly all of a short reply taken from a long post has a low Jaccard similarity and is an echo all the same.
        if len(mine) >= ECHO_WORDS and len(mine & theirs) / len(mine) >= draft.safety.max_similarity:
            return f"{len(mine & theirs)} of its {len(mine)} runs of three words are from {source[:40]!r}"
    return None


def _echo(words: list[str], theirs: list[str]) -> str | None:
    """What an injection asks for: to say the words of a post again, or one of them and little else."""
    if len(words) >= ECHO_RUN and (common := runs(words, ECHO_RUN) & runs(theirs, ECHO_RUN)):
        return f"it takes {' '.join(min(common))!r}"
    told = [word for word in words if len(word) >= TELLING and word in theirs]
    if len(words) <= ECHO_WORDS and told:
        return f"it says hardly more than {told[0]!r}"
    return None


def _copied(draft: _Draft, others: Sequence[str], what: str) -> str | None:
    for other in others:
        if text_hash(other) == text_hash(draft.text):
            return f"it is the same text as {what}"
        likeness = similarity(draft.text, other)
        if likeness >= draft.safety.max_similarity:
            return f"likeness {likeness:.2f} to {what}, {draft.safety.max_similarity:g} is a copy: {other[:40]!r}"
    return None


RULES: tuple[tuple[str, Callable[[_Draft], str | None]], ...] = (
    ("empty", _empty),
    ("unfinished", _unfinished),
    ("too_long", _too_long),
    ("characters", _characters),
    ("preamble", _preamble),
    ("refusal", _refusal_phrase),
    ("prompt_leak", _prompt_leak),
    ("quoted", _quoted),
    ("strangers", _strangers),
    ("link", _link),
    ("hashtags", _hashtags),
    ("blocked_term", _blocked),
    ("personal_data", _personal_data),
    ("gibberish", _gibberish),
    ("copy_of_own", _copy_of_own),
    ("copy_of_source", _copy_of_source),
    ("language", _language),
    ("offensive", _offensive),
)
# What a refusal says of a text. A draft refused for whom it spoke to, or withheld, says nothing about its writing.
TEXT_RULES = tuple(name for name, _ in RULES)
