"""Try the timeline interface: print which posts the bot would answer, and how. Nothing is posted.

.venv/bin/python scripts/test_tl_interface.py            against a sandbox, on servers of its own
.venv/bin/python scripts/test_tl_interface.py --config explorer.yaml    against X, with your keys; still posts nothing
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

from app import logs
from app.config import PersonaConfig, VibeBotConfig
from app.loading import load_config
from app.local.stack import SandboxOptions, local_sandbox, local_servers

TEST_PERSONA = PersonaConfig(
    name="Explorer",
    description="A curious field reporter who adds one concrete thought to what people are working on.",
    tone="curious, warm, brief",
    interests=["astronomy", "city gardens", "repair cafes"],
)


def sandbox_config(scratch: Path) -> VibeBotConfig:
    from app.local.observer import Observer
    from app.policy.packaged import packaged_model

    return VibeBotConfig(
        user_id=SandboxOptions.bot_id,
        accounts_to_follow=Observer(os.environ["X_BASE_URL"]).handles(8),
        persona=TEST_PERSONA,
        model={"hf_repo_id": str(packaged_model(Path("data/models/smollm2-135m-instruct")))},
        budget={"tier": "enterprise", "max_usd_per_day": 100, "max_usd_per_month": 1000},
        data_dir=str(scratch / "data"),
    )


def show(config: VibeBotConfig) -> None:
    from app.vibebot import VibeBot

    logs.configure("WARNING")
    bot = VibeBot(config.model_copy(update={"live": False}))
    answers, ignored = bot.timeline_interface(reply_to_tweets=False)
    for answer in answers:
        tweet = answer["tweet"]
        author = bot.community_db.get(tweet.author_id)
        name = author.handle if author else tweet.author_id
        print(f"\n  @{name}: {tweet.text}")
        print(f"  ↳ would {answer['kind']}: {answer['reply']}")
    print(f"\n{len(answers)} to answer, {len(ignored)} ignored, 0 posted")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, help="a config of yours, for reading your own timeline at X")
    options = parser.parse_args()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ.update(stack.enter_context(local_servers(scratch / "servers")))
        if options.config is not None:
            show(load_config(options.config))
            return
        env, _supervisor = stack.enter_context(local_sandbox(scratch / "sandbox", SandboxOptions()))
        os.environ.update(env)
        show(sandbox_config(scratch))


if __name__ == "__main__":
    main()
