"""A community as it is written down: the YAML file, checked. `communities/README.md` explains each key."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from app.sandbox.lexicon import lexicon, safe_loader, wrong_fields
from app.sandbox.traits import TRAITS

FOLDER = Path(__file__).parent / "communities"

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Texts = Annotated[list[str], Field(min_length=1)]
Slots = dict[str, Texts]
Hour = Annotated[int, Field(ge=0, le=24)]


class CommunityFileError(ValueError):
    """A community file that cannot be used. The message names file, field, value and remedy."""


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Crowd(Part):
    size: int = Field(default=1000, ge=0, le=200_000)
    appetite: Share = 0.35


class Audience(Part):
    reply: Positive = 3.0
    post: Positive = 3.0
    quote: Positive = 3.0
    views_per_like: Positive = 30.0
    luck: Annotated[float, Field(ge=0, le=2)] = 0.7
    author_pull: Annotated[float, Field(ge=0, le=2)] = 0.35
    late_half_life: Positive = 360.0


class Growth(Part):
    median_minutes: Positive = 80.0
    sigma: Positive = 1.1


class Mix(Part):
    repost: Annotated[float, Field(ge=0)] = 0.16
    reply: Annotated[float, Field(ge=0)] = 0.26
    quote: Annotated[float, Field(ge=0)] = 0.07


class Taste(Part):
    weights: dict[str, float]
    average: float = 0.0
    ceiling: Positive = 6.0
    talk: dict[str, float] = {}


class Opinion(Part):
    mean: Annotated[float, Field(ge=-1, le=1)] = 0.5
    spread: Positive = 0.25
    confidence: Positive = 0.25
    spreading: Share = 0.5


class Hostility(Part):
    block_chance: Share = 0.04
    angry: Share = 0.9


class Fatigue(Part):
    copy_from: Share = 0.35
    copy_until: Share = 0.8
    posts_per_day: int = Field(default=60, ge=1)
    same_author_hours: Positive = 6.0


class Rhythm(Part):
    reply_share: Share = 0.22
    repost_share: Share = 0.07
    mention_share: Share = 0.03
    news_pull: Annotated[float, Field(ge=0)] = 3.0
    news_every_hours: Positive = 30.0
    news_half_life_hours: Positive = 7.0


class MemberEntry(Part):
    handle: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,15}$")]
    name: Annotated[str, StringConstraints(min_length=1, max_length=50)]
    bio: str = ""
    location: str = ""
    followers: Share = 0.1
    posts_per_day: Annotated[float, Field(ge=0, le=200)] = 10
    awake: tuple[Hour, Hour] = (7, 23)
    interests: dict[str, Share]


class TopicEntry(Part):
    about: str
    words: Texts
    slots: Slots = {}
    news: Texts
    ideas: Texts
    questions: Texts


class Stance(Part):
    positive: Texts
    negative: Texts


class CommunityFile(Part):
    name: str
    title: str
    about: str = ""
    language: str = "en"
    history_hours: int = Field(default=24, ge=1, le=24 * 14)
    crowd: Crowd = Crowd()
    audience: Audience = Audience()
    growth: Growth = Growth()
    mix: Mix = Mix()
    taste: Taste
    opinion: Opinion = Opinion()
    hostility: Hostility = Hostility()
    fatigue: Fatigue = Fatigue()
    rhythm: Rhythm = Rhythm()
    members: Annotated[list[MemberEntry], Field(min_length=1)]
    common: Slots = {}
    topics: Annotated[dict[str, TopicEntry], Field(min_length=1)]
    held_out: dict[str, TopicEntry] = {}
    small_talk: Texts
    empty: Texts
    replies_between_members: Texts
    answers: Stance
    quotes: Stance

    @field_validator("language")
    @classmethod
    def _has_a_lexicon(cls, language: str) -> str:
        lexicon(language)
        return language

    @model_validator(mode="after")
    def _known_names(self) -> CommunityFile:
        unknown = sorted((set(self.taste.weights) | set(self.taste.talk)) - set(TRAITS))
        if unknown:
            raise ValueError(f"taste names unknown traits {unknown}; the traits are {sorted(TRAITS)}")
        strange = sorted({t for m in self.members for t in m.interests} - set(self.topics))
        if strange:
            raise ValueError(f"members have interests {strange} that are no topics; add them under topics")
        both = sorted(set(self.topics) & set(self.held_out))
        if both:
            raise ValueError(
                f"topics {both} stand under topics and under held_out; a held-out topic is never posted on"
            )
        handles = Counter(member.handle.lower() for member in self.members)
        twice = sorted(handle for handle, times in handles.items() if times > 1)
        if twice:
            raise ValueError(f"handles {twice} are used by two members; give each its own")
        return self


def _read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":  # a large community that a program wrote: JSON is YAML, and read twenty times as fast
        return json.loads(text)
    return yaml.load(text, Loader=safe_loader())  # noqa: S506


def load(name_or_path: str) -> CommunityFile:
    """Read a shipped community by its name, or any community by its path.

    Raises:
        CommunityFileError: there is no such file, it is not YAML, or a field is unknown, missing or wrong.
    """
    shipped = FOLDER / f"{name_or_path}.yaml"
    path = shipped if shipped.is_file() else Path(name_or_path)
    try:
        raw = _read(path)
    except OSError as error:
        names = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise CommunityFileError(f"no community {name_or_path!r} ({error}); shipped ones: {names}") from error
    except (yaml.YAMLError, json.JSONDecodeError, UnicodeDecodeError) as error:
        kind = "JSON" if path.suffix == ".json" else "YAML"
        raise CommunityFileError(f"{path} cannot be read as {kind}: {error}") from error
    try:
        return CommunityFile.model_validate(raw)
    except ValidationError as error:
        raise CommunityFileError(wrong_fields(path, error)) from None
