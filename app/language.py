"""Which language a text is in, as py3langid's naive Bayes on bytes has it (https://aclanthology.org/P12-3005/).

Short texts are hard: of 541 English drafts of SmolLM2-135M, two had a chance below 1 % of being English ("No." and
"Extra bonus:"), and of twenty insults and courtesies in thirteen other languages, all had. Whoever decides by it should
ask for near certainty.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

# What it can find, by ISO 639-1: the config is checked against them where there is no py3langid.
IDENTIFIED = frozenset({
    "af", "am", "an", "ar", "as", "az", "ba", "be", "bg", "bn", "br", "bs", "ca", "cs", "cy", "da", "de", "dz",
    "el", "en", "eo", "es", "et", "eu", "fa", "fi", "fo", "fr", "fy", "ga", "gd", "gl", "gu", "ha", "he", "hi",
    "hr", "ht", "hu", "hy", "id", "ig", "is", "it", "ja", "jv", "ka", "kk", "km", "kn", "ko", "ku", "ky", "la",
    "lb", "lg", "ln", "lo", "lt", "lv", "mg", "mk", "ml", "mn", "mr", "ms", "mt", "my", "ne", "nl", "nn", "no",
    "oc", "om", "or", "pa", "pl", "ps", "pt", "qu", "ro", "ru", "rw", "sa", "se", "si", "sk", "sl", "sn", "so",
    "sq", "sr", "st", "sv", "sw", "ta", "te", "tg", "th", "tk", "tl", "tr", "tt", "ug", "uk", "ur", "uz", "vi",
    "vo", "wa", "xh", "yo", "zh", "zu",
})  # fmt: skip


def chance_of(languages: Collection[str], text: str) -> float:
    """The probability that a text is in one of some languages of `IDENTIFIED`.

    >>> chance_of(["en"], "The night tram runs every half hour now.") > 0.99
    True
    >>> chance_of(["en"], "Die Straßenbahn fährt nachts jetzt alle halbe Stunde.") < 0.01
    True
    """
    # Summed, because a language may be there once for each of its scripts.
    return float(sum(chance for language, chance in _identifier().rank(text) if language in languages))


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # numpy, which an I/O worker has no use for

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
