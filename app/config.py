"""The bot's configuration as pydantic models, and the secrets. `app/loading.py` reads them."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal, Self
from urllib.parse import parse_qs, urlsplit
from zoneinfo import available_timezones

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.language import IDENTIFIED

Minutes = Annotated[float, Field(gt=0, le=60 * 24 * 365)]
Handle = Annotated[str, StringConstraints(strip_whitespace=True, pattern=r"^@?[A-Za-z0-9_]{1,15}$")]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50)]
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class Section(BaseModel):
    """A part of the config: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PersonaConfig(Section):
    name: Name = Field(description="What the bot calls itself.")
    description: Line = Field(description="Who it is, in a sentence or two, as the model is told it.")
    tone: Line = Field(description="How it speaks, e.g. 'curious, warm, brief'.")
    interests: list[Line] = Field(min_length=1, max_length=20, description="What it posts about.")
    adaptive: bool = Field(
        default=False,
        description="Whether tone and interests may be revised, within bounds, from what earned most.",
    )


class LoopConfig(Section):
    """Lengths in posts, intervals in minutes of world time."""

    tl_retrieval_length: int = Field(default=50, ge=5, le=800, description="Posts read from the timeline a turn.")
    tl_retrieval_interval: Minutes = Field(default=15, description="Minutes between timeline retrievals.")
    engagement_retrieval_interval: Minutes = Field(default=15, description="Minutes between metric retrievals.")
    ppo_interval: Minutes = Field(default=24 * 60, description="Minutes between attempted PPO runs.")
    mentions_interval: Minutes = Field(default=5, description="Minutes between retrievals of mentions.")
    own_post_interval: Minutes = Field(default=6 * 60, description="Minutes between posts of its own.")
    community_interval: Minutes = Field(default=24 * 60, description="Minutes between refreshes of the community.")
    persona_interval: Minutes = Field(default=7 * 24 * 60, description="Minutes between revisions, if adaptive.")
    vanished_interval: Minutes = Field(
        default=24 * 60, description="Minutes between asking X which posts it no longer shows; those are forgotten."
    )
    vanished_posts: int = Field(
        default=200, ge=0, description="Posts asked for then, in rounds; X charges for each that it still shows."
    )
    max_target_age: Minutes = Field(default=12 * 60, description="Age in minutes over which a post is not answered.")
    selection_share: float = Field(
        default=0.2, gt=0, le=1, description="Share of judged posts answered: those with the best scores."
    )
    exploration_share: float = Field(
        default=0.08, ge=0, le=0.5, description="Chance that a post is answered whatever its score."
    )
    quote_share: float = Field(
        default=0.1, ge=0, le=1, description="Chance that a worthy post is quoted rather than replied to."
    )
    max_replies_per_turn: int = Field(default=5, ge=1, le=100, description="Drafts written per timeline turn.")
    max_drafts_per_target: int = Field(default=2, ge=1, le=5, description="Attempts before a target is given up.")
    copilot_wait: Minutes = Field(
        default=12 * 60,
        description="Minutes after a person's choice in co-pilot mode in which it is looked for on our own timeline.",
    )


# The seed calls the same class by both names.
IntervalConfig = LoopConfig


class LoraConfig(Section):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685)."""

    rank: int = Field(default=16, ge=1, le=256)
    alpha: int = Field(default=32, ge=1, le=512)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: list[str] = Field(default=["q_proj", "k_proj", "v_proj"], min_length=1)


class SFTConfig(Section):
    """The jump start: which posts are gathered, and the training on them (`docs/jump-start.md`)."""

    approximate_tokens: int = Field(
        default=8_000_000_000,
        ge=1,
        description="Tokens to pull from X, about; 8B is near optimal for 360M parameters (arXiv 2203.15556).",
    )
    source: Literal["x", "archive", "jsonl", "dataset"] = Field(
        default="x",
        description="Where posts come from: X, one's own X archive, JSONL, a Hugging Face data set on disk.",
    )
    path: str | None = Field(
        default=None, description="The archive's zip, the JSONL file, or the data set's directory."
    )
    train_on_live_x: bool = Field(
        default=False,
        description="Whether a model may be trained on other people's posts from the live X. X's developer guidelines "
        "forbid it; its agreement forbids it for foundation and frontier models. The decision is the operator's.",
    )
    languages: list[str] = Field(
        default=["en"], description="Languages that are kept, as X names them; empty keeps every one."
    )
    max_cost: float = Field(default=50.0, ge=0, description="Most US dollars that the whole data set may cost.")
    max_memory_gb: float = Field(default=4.0, gt=0, description="Resident memory, in GB, at which gathering ends.")
    file_bytes: int = Field(
        default=500_000_000, ge=1000, le=1_000_000_000, description="Size, in bytes, at which a file is closed."
    )
    posts_per_account: int = Field(default=3200, ge=5, le=3200, description="Posts read of an account; X gives 3,200.")
    read_reposts: bool = Field(
        default=False, description="Read (and pay for) reposts too, which only to count them takes."
    )
    read_parents: bool = Field(default=True, description="Read (and pay for) the posts that replies answer.")
    max_similarity: float = Field(
        default=0.8, gt=0, le=1, description="Likeness to a post already kept (0 to 1) at which a post is dropped."
    )
    lora: LoraConfig = LoraConfig()
    learning_rate: float = Field(
        default=5e-4, gt=0, lt=1, description="For LoRA; what others come to is in `docs/jump-start.md`."
    )
    epochs: float = Field(default=1.0, gt=0, le=100)
    batch_size: int = Field(default=16, ge=1, description="Packed sequences per optimiser step.")
    max_length: int = Field(default=512, ge=32, le=8192, description="Tokens per packed sequence.")
    max_minutes: Minutes = Field(default=6 * 60 - 30, description="Wall minutes after which training ends by itself.")
    held_out_share: float = Field(
        default=0.1, gt=0, le=0.5, description="Share of the authors, and of the newest posts, kept for measuring."
    )

    @model_validator(mode="after")
    def _has_its_path(self) -> SFTConfig:
        if self.source != "x" and not self.path:
            raise ValueError(f"source {self.source!r} needs path; name the file or directory, or use source 'x'")
        return self


REWARD_PRESETS = {
    "plain": {"likes": 1.0, "retweets": 2.0, "quotes": 1.0, "replies": 1.0},
    "reach": {"likes": 1.0, "retweets": 4.0, "quotes": 2.0, "replies": 0.5},
    # X's published weights (xai-org/x-algorithm, 2026-08): made to multiply probabilities, and they reward bait.
    "ranker": {"likes": 0.5, "retweets": 1.0, "quotes": 5.0, "replies": 5.0},
}
COUNTED = ("likes", "retweets", "quotes", "replies", "bookmarks", "url_link_clicks", "user_profile_clicks")


class PPOConfig(Section):
    """PPO over logged posts; each default is argued in `docs/learning.md`."""

    lora: LoraConfig = LoraConfig()
    learning_rate: float = Field(default=5e-4, gt=0, lt=1)
    epochs: int = Field(default=2, ge=1, le=4, description="Passes over the samples of a run.")
    batch_size: int = Field(default=32, ge=1, description="Samples per optimiser step.")
    micro_batch_size: int = Field(default=16, ge=1, description="Samples per forward pass.")
    clip: float = Field(default=0.2, gt=0, lt=1, description="Clip range of the ratio to the proximal policy.")
    kl_coefficient: float = Field(default=0.05, ge=0, description="Weight of the k3 KL to the reference.")
    max_behaviour_weight: float = Field(default=2.0, ge=1, description="Cap of the proximal/behaviour weight.")
    target_kl: float = Field(default=2.0, gt=0, description="Sequence KL to the behaviour policy, in nats, to stop at.")
    min_ess: float = Field(default=0.3, ge=0, le=1, description="Effective sample size per sample to go on at.")
    max_grad_norm: float = Field(default=1.0, gt=0)
    min_samples: int = Field(default=64, ge=2, description="Fresh rewarded drafts before a run is worth it.")
    max_samples: int = Field(default=2048, ge=2, description="Most samples of one run, the newest first.")
    reward_age: Minutes = Field(default=24 * 60, description="Age in minutes at which engagement is the reward.")
    reward_weights: dict[str, float] = Field(
        default=REWARD_PRESETS["plain"],
        description="What a like, a repost, a quote and a reply are worth, the last two times their sign; "
        "or the name of a preset: plain, reach, ranker.",
    )
    refused_reward: float = Field(default=-2.0, description="Reward of a draft that was refused, in deviations.")
    reference_share: float = Field(
        default=0.05,
        ge=0,
        le=0.5,
        description="Share of drafts written by the frozen reference, for comparison.",
    )
    max_memory_gb: float | None = Field(
        default=None,
        ge=1,
        description="Memory that a training process may take, in GB; without a value, half of what the machine or its "
        "container has. A run that needs more fails with a reason, and generation goes on.",
    )
    max_gpu_share: float = Field(
        default=0.6, gt=0, le=1, description="Share of the GPU's memory that a training process may take."
    )
    gate: Literal["production", "demo", "open"] = Field(
        default="production",
        description="How strict the gate is; 'demo' decides on far less evidence, without a canary, and says so. "
        "'open' lets through whatever has finite weights: for proofs against a sandbox only.",
    )
    canary_longest: Minutes = Field(
        default=7 * 24 * 60, description="Minutes after which a canary that nothing speaks against is let through."
    )

    @field_validator("reward_weights", mode="before")
    @classmethod
    def _preset(cls, value: object) -> object:
        if isinstance(value, str):
            if value not in REWARD_PRESETS:
                raise ValueError(f"unknown preset; use {', '.join(REWARD_PRESETS)}, or a weight per count")
            return REWARD_PRESETS[value]
        return value

    @field_validator("reward_weights")
    @classmethod
    def _weighable(cls, weights: dict[str, float]) -> dict[str, float]:
        wrong = sorted(name for name, weight in weights.items() if name not in COUNTED or not 0 <= weight < 1e6)
        if wrong or not any(weights.values()):
            raise ValueError(
                f"{', '.join(wrong) or 'every weight'} cannot be used; give some of {', '.join(COUNTED)} "
                "a weight from 0 up, one of them above 0"
            )
        return weights


class DPOConfig(Section):
    """DPO on the choices of persons in co-pilot mode (`docs/learning.md`). The adapter, memory and gate are PPO's."""

    min_pairs: int = Field(default=32, ge=2, description="Fresh choices before a run is worth it.")
    max_pairs: int = Field(default=1024, ge=2, description="Most choices of one run, the newest first.")
    beta: float = Field(default=0.1, gt=0, le=10, description="How strongly the policy is held to the reference.")
    learning_rate: float = Field(default=1e-4, gt=0, lt=1)
    epochs: int = Field(default=2, ge=1, le=10, description="Passes over the choices of a run.")
    batch_size: int = Field(default=8, ge=1, description="Choices per optimiser step.")


class ModelConfig(Section):
    hf_repo_id: str = Field(
        default="HuggingFaceTB/SmolLM2-360M-Instruct",
        min_length=1,
        description="A repository on the Hugging Face hub, or a directory with a model in it.",
    )
    checkpoint_dir: str = Field(default="checkpoints", min_length=1, description="Where checkpoints are kept.")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        default="auto", description="'auto' is bfloat16 where the processor computes in it, else float32."
    )
    temperature: float = Field(default=0.7, gt=0, le=2, description="The tempered softmax is the policy.")
    max_new_tokens: int = Field(default=60, ge=8, le=512, description="Longest draft, in tokens.")
    max_prompt_tokens: int = Field(default=1024, ge=128, le=8192, description="Longest prompt, in tokens.")
    batch_size: int = Field(default=32, ge=1, le=1024, description="Sequences written or judged at a time.")


class SafetyConfig(Section):
    """What may be said, to whom, how often."""

    max_posts_per_hour: int = Field(default=10, ge=1, le=300)
    max_posts_per_day: int = Field(default=50, ge=1, le=2400)
    author_cooldown: Minutes = Field(default=12 * 60, description="Minutes before the same author is answered again.")
    max_replies_per_conversation: int = Field(default=3, ge=1, le=50, description="Replies of ours in one thread.")
    max_replies_per_author: int = Field(
        default=5, ge=1, le=500, description="Answers to one author in 24 hours, however often it calls the bot."
    )
    quiet_hours: str | None = Field(
        default=None,
        pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$",
        description="When nothing is posted, as '23:00-07:30' in time_zone; what is written then waits.",
    )
    time_zone: str = Field(default="UTC", description="An IANA time zone, such as 'Europe/Berlin', for quiet_hours.")
    min_pause: float = Field(
        default=1.0,
        ge=0,
        le=24 * 60,
        description="Least minutes between two posts; each pause is drawn from one to three times as long.",
    )
    disclosure: Line | None = Field(
        default=None, description="Put below every post, such as 'automated'; X's own label is set in the account."
    )
    approval: bool = Field(
        default=False, description="Every draft waits for a person (`explorer approve`); the others are never posted."
    )
    copilot: bool = Field(
        default=False,
        description="A post that is worth an answer and did not call the bot gets two drafts, for a person to choose "
        "from and to post by hand (the console's page Co-pilot): for tiers on which X takes no such reply by its API.",
    )
    blocked_terms: list[Line] = Field(default=[], description="A draft with one of these words is refused.")
    languages: list[str] = Field(
        default=["en"],
        min_length=1,
        description="ISO 639-1 codes of what drafts may be in; any but 'en' needs approval: what judges offence reads "
        "English alone.",
    )
    max_offensiveness: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Probability of being offensive, of a draft or of any three words in it (0 to 1), at which it is "
        "refused; the judge reads English.",
    )
    max_similarity: float = Field(
        default=0.6, gt=0, le=1, description="Likeness to a recent post (0 to 1) at which a draft is a copy."
    )

    @field_validator("languages")
    @classmethod
    def _identifiable(cls, value: list[str]) -> list[str]:
        if strange := sorted(set(value) - IDENTIFIED):
            raise ValueError(f"got {strange[0]!r}, which no text is ever found to be in; use ISO 639-1 codes like 'en'")
        return value

    @model_validator(mode="after")
    def _somebody_reads(self) -> Self:
        if (unread := [language for language in self.languages if language != "en"]) and not self.approval:
            raise ValueError(
                f"languages: got {unread[0]!r}, in which nothing here can tell what is offensive; set approval: true, "
                "so that a person reads every draft, or leave it out"
            )
        return self

    @field_validator("quiet_hours")
    @classmethod
    def _ends(cls, value: str | None) -> str | None:
        if value is not None and value[:5] == value[6:]:
            raise ValueError("begins when it ends; give two different times, or leave it out")
        return value

    @field_validator("time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError("no such time zone; use a name like 'UTC' or 'Europe/Berlin'")
        return value


class PriceConfig(Section):
    """What X charges on pay-per-use, in US dollars: https://docs.x.com/x-api/getting-started/pricing."""

    post_read: float = Field(default=0.005, ge=0, description="Per post returned.")
    user_read: float = Field(default=0.010, ge=0, description="Per user returned, included authors too.")
    owned_read: float = Field(
        default=0.001,
        ge=0,
        description="Per own post or mention returned; set it to post_read if another account owns the app.",
    )
    post: float = Field(default=0.015, ge=0, description="Per post without a link.")
    post_with_url: float = Field(default=0.20, ge=0, description="Per post with a link.")
    summoned_reply: float = Field(default=0.010, ge=0, description="Per reply to somebody who called the bot.")
    interaction: float = Field(default=0.015, ge=0, description="Per follow.")
    deletion: float = Field(default=0.010, ge=0, description="Per post taken back.")


class BudgetConfig(Section):
    """Money, in US dollars. A request that would break a cap is put off, never made."""

    tier: Literal["pay-per-use", "basic", "pro", "enterprise"] = "pay-per-use"
    max_usd_per_day: float = Field(default=5.0, ge=0)
    max_usd_per_month: float = Field(default=100.0, ge=0)
    prices: PriceConfig = PriceConfig()


class MonitorConfig(Section):
    """`explorer monitor`. Where alarms go is a secret: ALERT_WEBHOOK_URL and ALERT_MAIL_URL in the environment."""

    interval: float = Field(default=30.0, ge=1, le=240, description="Seconds between two looks.")
    late_after: Minutes = Field(default=15, description="Wall minutes by which a turn or a post may be late.")


class VibeBotConfig(Section):
    user_id: str = Field(pattern=r"^[0-9]{1,19}$", description="The numeric X user id of the bot's account.")
    accounts_to_follow: list[Handle] = Field(min_length=1, description="Handles that seed the community.")
    persona: PersonaConfig
    loop: LoopConfig = LoopConfig()
    sft: SFTConfig = SFTConfig()
    ppo: PPOConfig = PPOConfig()
    dpo: DPOConfig = DPOConfig()
    model: ModelConfig = ModelConfig()
    safety: SafetyConfig = SafetyConfig()
    budget: BudgetConfig = BudgetConfig()
    monitor: MonitorConfig = MonitorConfig()
    bot_id: str = Field(
        default="explorer",
        pattern=r"^[a-z][a-z0-9-]{0,30}$",
        description="Names this bot in every row it writes; one deployment may serve several.",
    )
    live: bool = Field(default=False, description="Whether posts are really sent. Anything else is a dry run.")
    data_dir: str = Field(default="data", min_length=1, description="Root of exports, data sets and logs.")
    shared_url: str | None = Field(
        default=None,
        min_length=1,
        description="Where several machines share checkpoints and the jump start's files, as s3://BUCKET/FOLDER or "
        "another URL of fsspec; data_dir and model.checkpoint_dir are then working copies. Without it they themselves "
        "are what is shared.",
    )

    @field_validator("shared_url")
    @classmethod
    def _without_credentials(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.password is not None or parts.query or parts.fragment:
            raise ValueError("credentials and options do not belong here; give them in the environment (AWS_…)")
        if "://" not in url or not parts.scheme or not (parts.netloc or parts.path.strip("/")):
            raise ValueError("not a URL; write it as s3://BUCKET/FOLDER or file:///FOLDER")
        return url

    @field_validator("accounts_to_follow")
    @classmethod
    def _distinct(cls, handles: list[str]) -> list[str]:
        plain = [handle.removeprefix("@") for handle in handles]
        times = Counter(handle.lower() for handle in plain)
        twice = sorted({handle for handle in plain if times[handle.lower()] > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is listed twice; remove one")
        return plain


class Secrets(BaseSettings):
    """Keys and addresses, from the environment (`app/environment.py` says how they get there)."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    x_api_key: SecretStr | None = None
    x_api_secret: SecretStr | None = None
    x_access_token: SecretStr | None = None
    x_access_token_secret: SecretStr | None = None
    x_client_id: str | None = None
    x_client_secret: SecretStr | None = None
    x_base_url: str = Field(default="https://api.twitter.com", pattern=r"^https?://[^/]+/?$")
    database_url: SecretStr = SecretStr("postgresql+psycopg2://explorer:explorer@127.0.0.1:5432/explorer")
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    broker_url: SecretStr | None = None
    alert_webhook_url: SecretStr | None = None
    alert_mail_url: SecretStr | None = None
    console_password: SecretStr | None = None

    @property
    def uses_oauth2(self) -> bool:
        """Whether X is asked with tokens of OAuth 2.0; otherwise with the four keys of OAuth 1.0a."""
        return self.x_client_id is not None or self.x_client_secret is not None

    @property
    def broker(self) -> SecretStr:
        """Where messages go: the RabbitMQ of `BROKER_URL`, or else the Redis of `REDIS_URL`."""
        return self.broker_url or self.redis_url

    @field_validator(
        "x_client_id",
        "x_client_secret",
        "broker_url",
        "alert_webhook_url",
        "alert_mail_url",
        "console_password",
        mode="before",
    )
    @classmethod
    def _unset(cls, value: object) -> object:
        return None if value == "" else value  # compose passes on what is not set as an empty text

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and urlsplit(value.get_secret_value()).scheme not in {"amqp", "amqps"}:
            raise ValueError("not an address of RabbitMQ; write amqps://USER:PASSWORD@HOST:5671/VHOST")
        return value

    @field_validator("alert_webhook_url")
    @classmethod
    def _webhook(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not urlsplit(value.get_secret_value()).scheme.startswith("http"):
            raise ValueError("not an address of a webhook; it begins with https://")
        return value

    @field_validator("alert_mail_url")
    @classmethod
    def _mail(cls, value: SecretStr | None) -> SecretStr | None:
        place = urlsplit(value.get_secret_value() if value is not None else "smtp://host?from=a&to=b")
        people = parse_qs(place.query).keys()
        if place.scheme not in {"smtp", "smtps"} or not place.hostname or not {"from", "to"} <= people:
            raise ValueError("not an address for mail; write smtp://USER:PASSWORD@HOST:PORT?from=SENDER&to=RECIPIENT")
        return value
