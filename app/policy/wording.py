"""The words of every prompt."""

from __future__ import annotations

# Drafts and judgements name it: raise it with every change of a word below.
PROMPT_VERSION = "3"

HABIT = "You write one short post at a time, without links or hashtags."
REPLY_REQUEST = "Reply to {} in one sentence."
QUOTE_REQUEST = "Share the post of {} with one sentence of your own."
POST_REQUEST = "Write a post about {} in one sentence."

# A small model does better what it was shown than what it was told: of 40 replies of SmolLM2-135M at temperature 0.7
# the rules let 26 pass without examples and 37 with four. They differ in form, so that none becomes the only habit.
REPLY_EXAMPLES = (
    (
        "mira",
        "Our bakery switched to a wood oven and the bread sells out by nine now.",
        "Sold out by nine is a good problem to have; does the crust change with the wood you burn?",
    ),
    (
        "tom_w",
        "The museum is free on Thursdays and nobody seems to know.",
        "I had no idea, and a sign at the tram stop would fill the place.",
    ),
    (
        "kira9",
        "Counted 41 swifts over the old mill tonight, twice as many as last June.",
        "Twice as many in one year is remarkable, so something near the mill must feed them well.",
    ),
    (
        "jonas",
        "New bridge opens Monday, three months late and under budget.",
        "Late but under budget is rarer than on time. Who kept the costs down?",
    ),
)
POST_EXAMPLES = (
    ("bread", "The best thing about baking at home is that a failed loaf still makes the kitchen smell right."),
    ("bridges", "A bridge is the only building that everybody judges by what happens next to it. Which one is yours?"),
    ("birds", "Swifts sleep in the air for ten months a year, and we call a short night hard."),
)

SUMMARISER = "You name the subjects that accounts on X write about, in a few plain words."
SUMMARY_REQUEST = "What does {} write about?"
SUMMARY_OPENING = "Writes about"  # the answer's first words are put into the model's mouth
SUMMARY_EXAMPLES = (
    (
        "mira",
        ("Our bakery switched to a wood oven.", "Rye needs three days, and nobody believes it.", "Flour is up again."),
        " baking bread, and what it costs to run a small bakery.",
    ),
    (
        "tom_w",
        ("The museum is free on Thursdays.", "Saw the new bronze hall today, go early.", "Who dates these coins?"),
        " museums, exhibitions and old coins.",
    ),
)

# The seed's two criteria. The examples are not decoration: on 40 hand-labelled posts SmolLM2-135M had an AUC of 0.18
# and 0.56 without them, 0.70 and 0.90 with the first two, 0.94 and 0.92 with all four (tests/policy/test_packaged.py).
# Being the same for every post, they are read once a batch.
JUDGE = "You judge posts on X. Answer with Yes or No."
JUDGE_REQUEST = " Answer Yes or No."
CRITERIA = {
    "newsworthy": "Does this post touch on a newsworthy topic?",
    "substantive": "Does this post introduce a substantive idea that others can add to?",
}
JUDGED_EXAMPLES = {
    "newsworthy": (
        ("The health ministry approved the first vaccine against the new virus this morning.", "Yes"),
        ("had pizza again, no regrets", "No"),
        ("Two trains collided outside the capital, police say nobody was hurt.", "Yes"),
        ("love this weather so much", "No"),
    ),
    "substantive": (
        (
            "Rent control lowers rents for those who stay and raises them for those who move; the debate is about "
            "which matters.",
            "Yes",
        ),
        ("had pizza again, no regrets", "No"),
        ("The bottleneck in fusion is not physics any more but materials that survive the neutrons.", "Yes"),
        ("love this weather so much", "No"),
    ),
}

# Sentences of ours that must not come out of the model again.
INSTRUCTIONS = (
    HABIT,
    *(text for _, *texts in REPLY_EXAMPLES for text in texts),
    *(answer for _, answer in POST_EXAMPLES),
)
