"""Every table of Explorer. `Base.metadata` is what Alembic compares the database with."""

from dbs.models.access import OAuth2Tokens
from dbs.models.base import Base
from dbs.models.community import Bot, Community, Membership, SeedHandle
from dbs.models.drafts import Draft, DraftSample, PersonaVersion
from dbs.models.jump_start import DataSet, DataSetAccount, EarlierPost, Forgotten, KickoffStep
from dbs.models.learning import Checkpoint, GateVerdict, Preference, Reward, TrainingRun, TrainingSample
from dbs.models.operations import Capability, Cursor, Event, Lease, LedgerEntry, Loop, RateWindow, SpentDay
from dbs.models.posts import Engagement, Post, QuoteComment
from dbs.models.timeline import Judgement, TimelinePost

__all__ = [
    "Base",
    "Bot",
    "Capability",
    "Checkpoint",
    "Community",
    "Cursor",
    "DataSet",
    "DataSetAccount",
    "Draft",
    "DraftSample",
    "EarlierPost",
    "Engagement",
    "Event",
    "Forgotten",
    "GateVerdict",
    "Judgement",
    "KickoffStep",
    "Lease",
    "LedgerEntry",
    "Loop",
    "Membership",
    "OAuth2Tokens",
    "PersonaVersion",
    "Post",
    "Preference",
    "QuoteComment",
    "RateWindow",
    "Reward",
    "SeedHandle",
    "SpentDay",
    "TimelinePost",
    "TrainingRun",
    "TrainingSample",
]
