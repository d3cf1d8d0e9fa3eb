"""Whether a text is profane or insulting, as a small linear model that ships in a package judges it.

alt-profanity-check is a support vector machine on words, trained on 200,000 English comments that people labelled
(https://victorzhou.com/blog/better-profanity-detection-with-scikit-learn/). It knows words, not what is meant: "black
holes suck" offends it, and contempt in plain words does not. For a draft the first error costs one silence; the second
is why the gate has a measure of its own (`app/learning/textmeasures.py`). What it was not trained on, other languages
among it, it finds harmless; `safety.languages` keeps drafts in other languages from it.
"""

from __future__ import annotations


def offensiveness(text: str) -> float:
    """The probability that people would call a text offensive, from 0 to 1.

    >>> offensiveness("You are an idiot and a liar.") > 0.9
    True
    >>> offensiveness("The night tram runs every half hour now.") < 0.2
    True
    """
    from profanity_check import predict_prob  # scikit-learn, which an I/O worker has no use for

    return float(predict_prob([text])[0])
