"""Whether a model may be trained on posts from X: not from the live X, unless the operator has said so.

X's developer guidelines prohibit storing X data to train AI models; the developer agreement's own text speaks of
foundation and frontier models. That decision is the operator's and never ours to take silently. A sandbox, and one's
own archive, need none. https://docs.x.com/developer-terms/policy
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from app.config import Secrets, VibeBotConfig
from app.loading import ConfigError


class OptInMissingError(ConfigError):
    """Training on live X was not opted into."""


def is_live_x(secrets: Secrets) -> bool:
    """Whether the address is that of X, or could be: only this machine itself is surely none."""
    host = urlsplit(secrets.x_base_url).hostname or ""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def require_opt_in(config: VibeBotConfig, secrets: Secrets) -> None:
    """Make sure that posts of this config's source may be trained on.

    Raises:
        OptInMissingError: they are other people's, from live X, and nobody has opted in.
    """
    if config.sft.source == "x" and is_live_x(secrets) and not config.sft.train_on_live_x:
        raise OptInMissingError(
            "sft.train_on_live_x: got False, and sft.source is 'x' at the live X. X's developer guidelines prohibit "
            "storing X data to train AI models, and its developer agreement prohibits it for foundation and frontier "
            "models. If you have decided that you may, set sft.train_on_live_x: true; otherwise name another "
            "sft.source (archive, jsonl, dataset), or go on without a jump start: the base model writes too"
        )
