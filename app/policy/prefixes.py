"""What prompts begin with in common: read once for all of them, and the reason to batch some apart from others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

MIN_SHARED = 16  # tokens of common prefix below which reading them apart costs more than it saves


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with, short of any prompt's last token: that one predicts."""
    shortest, first = min(map(len, prompts)) - 1, prompts[0]
    for at in range(shortest):
        if any(prompt[at] != first[at] for prompt in prompts):
            return at
    return max(shortest, 0)


def alike(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Indices of the prompts, in groups that each begin alike for as long as most of the group do.

    Replies share 340 tokens of 430, but only 70 of them with posts of one's own: one such post in a batch of replies
    makes each of them four times as long to read.

    >>> alike([[1] * 40 + [2, 3], [1] * 40 + [4, 5], [1] * 9 + [6, 7]])
    [[0, 1], [2]]
    """
    return _alike(prompts, list(range(len(prompts))))


def _alike(prompts: Sequence[Sequence[int]], members: list[int]) -> list[list[int]]:
    if len(members) < 2:
        return [members] if members else []
    enough = common_prefix([prompts[i] for i in members]) + MIN_SHARED
    most = members
    # A few may go their own way at once and a few others a token later: it is where most come to that counts.
    while (shared := common_prefix([prompts[i] for i in most])) < enough:
        token, count = Counter(prompts[i][shared] for i in most).most_common(1)[0]
        if count == len(most) or 2 * count <= len(members):
            return [members]
        most = [i for i in most if prompts[i][shared] == token]
    rest = sorted(set(members) - set(most))
    return [*_alike(prompts, most), *_alike(prompts, rest)]
