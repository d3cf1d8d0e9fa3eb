"""Try PPO from end to end on a small hard-coded data set, verify the checkpoint that it writes, and delete it.

    .venv/bin/python scripts/test_ppo.py

Servers, database and sandbox are its own and gone afterwards. A minute or two with SmolLM2-135M on two cores.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

from app import clock
from app.config import PersonaConfig, VibeBotConfig
from app.learning.trainer import run_ppo
from app.learning.turn import RunOutcome
from app.local.observer import Observer
from app.local.stack import SandboxOptions, local_sandbox, local_servers
from app.policy import checkpoints, registry
from app.policy.model import LanguageModel
from app.policy.packaged import packaged_model
from app.policy.prompts import PromptBuilder, Said, Target
from app.policy.wording import PROMPT_VERSION
from app.safety import FILTER_VERSION
from app.text import text_hash
from app.vibebot import VibeBot
from dbs.models import Draft, DraftSample, Engagement, Post, TimelinePost
from dbs.states import Arm, DraftState, Kind, PostState, SeenState, Source

TEST_PERSONA = PersonaConfig(
    name="Explorer",
    description="A curious field reporter who adds one concrete thought to what people are working on.",
    tone="curious, warm, brief",
    interests=["astronomy", "city gardens", "repair cafes"],
)

# What was said and by whom; what it is about; how many likes and reposts it had when it was answered.
TWEETS = [
    ("mira_k", "The repair cafe fixed 31 toasters this year and binned only two.", "the toasters", 12, 2),
    ("tomwrites", "Saw Saturn's rings through a borrowed telescope last night.", "Saturn", 40, 6),
    ("greenline", "Our roof garden lost its tomatoes to one hailstorm.", "the roof garden", 9, 0),
    ("ada_b", "The night bus is free until March and half empty.", "the night bus", 22, 5),
    ("jonas", "Three neighbours, one lathe, no idea who pays for the blades.", "the lathe", 3, 0),
    ("kira9", "Counted 41 swifts over the old mill, twice as many as last June.", "the swifts", 31, 4),
    ("lenz", "A comet nobody predicted is brightening by the hour.", "the comet", 88, 20),
    ("paula_m", "We planted beans between the tram rails and the city mowed them.", "the beans", 17, 3),
    ("okwudi", "Built a radio from a razor blade and a pencil; it works.", "the radio", 54, 9),
    ("sven", "The library now lends drills and sewing machines.", "the drills", 26, 8),
    ("noor", "My solar oven reached 120 degrees in February.", "the solar oven", 15, 1),
    ("eli", "A beekeeper on floor nine sells honey in the lift.", "the honey", 63, 7),
]
# Answers, and what each earned on the day after: likes, reposts, quotes, replies. This community likes questions.
ANSWERS = [
    ("What surprised you most about {}?", 9, 1, 0, 3),
    ("Who first had the idea with {}?", 7, 0, 1, 2),
    ("Could {} work in a smaller town too?", 8, 1, 0, 4),
    ("{} will be what I talk about all week.", 3, 0, 0, 0),
    ("Nice to hear about {}.", 1, 0, 0, 0),
    ("I like {} a lot.", 0, 0, 0, 0),
    ("There should be more news of {}.", 2, 0, 0, 1),
    ("Interesting, {} and so on.", 0, 0, 0, 0),
]


def test_config(scratch: Path) -> VibeBotConfig:
    return VibeBotConfig(
        user_id=SandboxOptions.bot_id,
        accounts_to_follow=Observer(os.environ["X_BASE_URL"]).handles(5),
        persona=TEST_PERSONA,
        model={
            "hf_repo_id": str(packaged_model(Path("data/models/smollm2-135m-instruct"))),
            "checkpoint_dir": str(scratch / "checkpoints"),
        },
        ppo={"gate": "demo", "min_samples": 32, "epochs": 1},
        budget={"tier": "enterprise", "max_usd_per_day": 100, "max_usd_per_month": 1000},
        data_dir=str(scratch / "data"),
    )


def store_dataset(bot: VibeBot) -> int:
    """Write the data set into the bot's rows, as if it had written the answers two days ago."""
    model = LanguageModel(bot.config.model)
    builder = PromptBuilder(model.tokenizer, bot.config.model.max_prompt_tokens)
    temperature = bot.config.model.temperature
    begun = clock.now() - timedelta(days=2)
    with bot.db.transaction() as session:
        base = registry.ensure_base(session, bot.config.bot_id, bot.config.model.hf_repo_id, model.base_hash)
        for at, (handle, tweet, about, likes, retweets) in enumerate(TWEETS):
            said_at = begun - timedelta(hours=1, minutes=at)
            session.add(seen_post(bot, f"{9000 + at}", tweet, said_at))
            prompt = builder.reply(TEST_PERSONA, Target(Said(handle, tweet)))
            texts = [answer.format(about) for answer, *_ in ANSWERS]
            outputs = [[*model.tokenizer(text).input_ids, model.eos_id] for text in texts]
            logprobs = model.score([prompt.token_ids] * len(outputs), outputs, temperature)
            for i, (_, *counts) in enumerate(ANSWERS):
                draft = Draft(
                    draft_id=uuid.uuid5(uuid.NAMESPACE_URL, f"ppo/{at}/{i}"),
                    bot_id=bot.config.bot_id,
                    kind=Kind.REPLY,
                    content=texts[i],
                    state=DraftState.USED,
                    attempt=1,
                    target_post_id=f"{9000 + at}",
                    target_author_id=f"{700 + at}",
                    selection_chance=1.0,
                    arm=Arm.INCUMBENT,
                    arm_chance=1.0,
                    checkpoint_id=base.checkpoint_id,
                    persona_version=1,
                    prompt_version=PROMPT_VERSION,
                    filter_version=FILTER_VERSION,
                    temperature=temperature,
                    max_new_tokens=bot.config.model.max_new_tokens,
                    finished=True,
                    target_likes=likes,
                    target_retweets=retweets,
                    target_replies=0,
                    target_quotes=0,
                    target_age_s=3600.0,
                    hour_utc=begun.hour,
                    weekday=begun.weekday(),
                    created_at=begun,
                )
                session.add(draft)
                session.flush()
                session.add(
                    DraftSample(
                        draft_id=draft.draft_id,
                        bot_id=bot.config.bot_id,
                        prompt=prompt.text,
                        prompt_token_ids=prompt.token_ids,
                        output_token_ids=outputs[i],
                        logprobs=logprobs[i],
                    )
                )
                post = measured_post(draft, prompt.text, str(80_000 + 100 * at + i), i)
                session.add(post)
                session.flush()
                session.add(reading(post, *counts))
    return len(TWEETS) * len(ANSWERS)


def seen_post(bot: VibeBot, x_post_id: str, text: str, at: datetime) -> TimelinePost:
    return TimelinePost(
        bot_id=bot.config.bot_id,
        x_post_id=x_post_id,
        author_id=f"7{x_post_id}",
        text=text,
        created_at=at,
        source=Source.TIMELINE,
        summons=False,
        first_seen_at=at,
        state=SeenState.DRAFTED,
    )


def measured_post(draft: Draft, prompt: str, x_post_id: str, nth: int) -> Post:
    return Post(
        post_id=uuid.uuid4(),
        content_gen_prompt=prompt,
        content=draft.content,
        is_reply=True,
        post_time=draft.created_at,
        bot_id=draft.bot_id,
        kind=draft.kind,
        x_post_id=x_post_id,
        # One live post to a target: the data set has eight answers to each, as if to eight like it.
        target_post_id=f"{draft.target_post_id}{nth}",
        target_author_id=draft.target_author_id,
        draft_id=draft.draft_id,
        checkpoint_id=draft.checkpoint_id,
        persona_version=draft.persona_version,
        text_hash=text_hash(draft.content),
        state=PostState.POSTED,
        queued_at=draft.created_at,
        due_at=draft.created_at,
    )


def reading(post: Post, likes: int, retweets: int, quotes: int, replies: int) -> Engagement:
    day = timedelta(days=1)
    return Engagement(
        post_id=post.post_id,
        bot_id=post.bot_id,
        retrieval_time=post.queued_at + day,
        likes=likes,
        retweets=retweets,
        quotes=quotes,
        replies=replies,
        planned_age_s=round(day.total_seconds()),
        age_s=day.total_seconds(),
    )


def verify_and_delete(bot: VibeBot, outcome: RunOutcome) -> None:
    """The checkpoint exists, is whole, loads on a fresh base and writes with it; then it is deleted."""
    if outcome.checkpoint_id is None:
        raise SystemExit(f"PPO made no checkpoint: {outcome.reason}")
    root, bot_id = bot.config.model.checkpoint_dir, bot.config.bot_id
    place = checkpoints.directory(root, bot_id, outcome.checkpoint_id)
    model = LanguageModel(bot.config.model)
    manifest = checkpoints.verify(place, model.base_hash, bot_id)
    print(f"\n{place.name}: {', '.join(sorted(manifest.files))}, {manifest.samples} samples, verified")
    with bot.db.transaction() as session:
        row = registry.get(session, bot_id, outcome.checkpoint_id)
        model.use([path for _, path in registry.stack(root, row)])
    builder = PromptBuilder(model.tokenizer, bot.config.model.max_prompt_tokens)
    prompt = builder.reply(TEST_PERSONA, Target(Said("mira_k", TWEETS[0][1])))
    (written,) = model.sample([prompt.token_ids], temperature=0.7, max_new_tokens=40, seed=1)
    print(f"loaded; it answers: {written.text.strip()}")
    checkpoints.remove(root, bot_id, outcome.checkpoint_id)
    if place.exists():
        raise SystemExit(f"{place} could not be deleted")
    print("deleted")


def main() -> None:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ.update(stack.enter_context(local_servers(scratch / "servers")))
        env, _supervisor = stack.enter_context(local_sandbox(scratch / "sandbox", SandboxOptions()))
        os.environ.update(env)
        bot = VibeBot(test_config(scratch))
        print(f"{store_dataset(bot)} answers with their engagement are stored")

        def show(step: int, steps: int, metrics: dict[str, float]) -> None:
            print(f"step {step}/{steps}: " + ", ".join(f"{k} {metrics[k]:.3f}" for k in ("ppo/loss", "objective/kl")))

        outcome = run_ppo(bot.config, bot.db, show)
        print(
            f"{outcome.state}: {outcome.samples} samples, promoted {outcome.promoted}, {outcome.reason or 'no remark'}"
        )
        verify_and_delete(bot, outcome)


if __name__ == "__main__":
    main()
