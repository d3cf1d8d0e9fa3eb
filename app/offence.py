"""Whether a text is profane or insulting, as a small linear model that ships in a package judges it.

alt-profanity-check is a support vector machine on words, trained on 200,000 English comments that people labelled
(https://victorzhou.com/blog/better-profanity-detection-with-scikit-learn/). It knows words, not what is meant: "black
holes suck" offends it, and contempt in plain words does not. For a draft the first error costs one silence; the second
is why the gate has a measure of its own (`app/learning/textmeasures.py`). It knows "idiots" and not "clowns", so a list
of such names stands beside it. What it was not trained on, other languages among it, it finds harmless;
`safety.languages` keeps drafts in other languages from it.
"""

from __future__ import annotations

import re

# Words that are judged by themselves, because a long text thins an insult out: of replies with one in them that a bot
# posted in the sandbox's `uproar`, the text as a whole came to 0.5 in a fifth, the worst three words in nine tenths.
RUN = 3

# Names to call people that the model does not know in every form, and that hardly stand for anything else: rats, pigs
# and trash are left to it.
INSULT = re.compile(
    r"""\b(?:a\ fraud|frauds|crybab(?:y|ies)|scum|scumbags?|vermin|sheeple|low-?lifes?
      |(?:buffoon|charlatan|clown|coward|cretin|crook|degenerate|dimwit|fool|half-?wit|hypocrite|imbecile|liar|lunatic
        |nitwit|simpleton|swindler|thug|traitor)s?)\b""",
    re.IGNORECASE | re.VERBOSE,
)
INSULTED = 0.9  # what a text with one of these comes to, at the least


def offensiveness(text: str) -> float:
    """The probability that people would call a text offensive, or the worst few words in it; from 0 to 1.

    >>> offensiveness("You are an idiot and a liar.") > 0.9
    True
    >>> offensiveness("The night tram runs every half hour now.") < 0.2
    True
    >>> offensiveness("Enough. They are frauds, and everybody knows.") >= INSULTED
    True
    >>> offensiveness("The schedule came last week, nobody was asked, and what a disgrace it is for those on it.") > 0.8
    True
    """
    from profanity_check import predict_prob  # scikit-learn, which an I/O worker has no use for

    words = text.split()
    runs = [" ".join(words[at : at + RUN]) for at in range(max(1, len(words) - RUN + 1))]
    return float(max(*predict_prob([text, *runs]), INSULTED if INSULT.search(text) else 0.0))
