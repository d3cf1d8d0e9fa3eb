"""What tests of the console share: its password, and drafts that wait for a person."""

from __future__ import annotations

import uuid

from factories import give_draft

from app.config import VibeBotConfig
from app.posting import queue_drafts
from dbs.models import Checkpoint
from dbs.session import Database

PASSWORD = "a-password-of-the-console"


def waiting(database: Database, config: VibeBotConfig, checkpoint: Checkpoint, text: str) -> uuid.UUID:
    with database.transaction() as session:
        draft = give_draft(session, checkpoint, text)
    queue_drafts(database, config)
    return draft.draft_id
