"""What tests of the console share: its password, a browser without a screen, and drafts that wait for a person."""

from __future__ import annotations

import re
import uuid

import requests
from factories import give_draft

from app.config import VibeBotConfig
from app.posting import queue_drafts
from dbs.models import Checkpoint
from dbs.session import Database

PASSWORD = "a-password-of-the-console"


class Browser(requests.Session):
    """Follows redirects, keeps cookies, and fills in the token of the last page as a form does."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.token = url, ""

    def see(self, path: str) -> requests.Response:
        answer = self.get(self.url + path)
        if found := re.search(r'name="token" value="([^"]+)"', answer.text):
            self.token = found.group(1)
        return answer

    def act(self, path: str, **fields: str) -> requests.Response:
        return self.post(self.url + path, data={"token": self.token, **fields})

    def sign_in(self, password: str = PASSWORD) -> requests.Response:
        answer = self.post(f"{self.url}/login", data={"password": password})
        self.see("/")
        return answer


def waiting(database: Database, config: VibeBotConfig, checkpoint: Checkpoint, text: str) -> uuid.UUID:
    with database.transaction() as session:
        draft = give_draft(session, checkpoint, text)
    queue_drafts(database, config)
    return draft.draft_id
