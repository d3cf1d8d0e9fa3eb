"""Telling a person: a webhook, a mail, or both; once when an alarm is raised and once when it is over."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from urllib.parse import parse_qs, unquote, urlsplit

import requests
import structlog
from pydantic import SecretStr

from app import clock
from app.config import Secrets
from app.monitor.alarms import Alarm

log = structlog.get_logger()

SECONDS = 15.0


@dataclass(frozen=True)
class Message:
    """One alarm that was raised, or is over."""

    bot_id: str
    alarm: Alarm
    raised: bool

    @property
    def line(self) -> str:
        state = "" if self.raised else "over: "
        return f"[{self.bot_id}] {self.alarm.name}: {state}{self.alarm.text}"


class NotToldError(RuntimeError):
    """A message did not reach its address. The text names the channel, never the address: it holds a secret."""


def by_webhook(url: SecretStr, message: Message) -> None:
    """POST a message as JSON. Slack and Mattermost show `text`, Discord `content`; the rest is for programs.

    Raises:
        NotToldError: the address cannot be reached, or refuses.
    """
    body = {
        "text": message.line,
        "content": message.line,
        "bot": message.bot_id,
        "alarm": message.alarm.name,
        "raised": message.raised,
        "at": clock.wall_now().isoformat(),
    }
    try:
        answer = requests.post(url.get_secret_value(), json=body, timeout=SECONDS)
    except requests.RequestException as error:
        raise NotToldError(f"ALERT_WEBHOOK_URL: {type(error).__name__}") from None  # its text has the address
    if not answer.ok:
        raise NotToldError(f"ALERT_WEBHOOK_URL: answered with {answer.status_code}")


def by_mail(url: SecretStr, message: Message) -> None:
    """Send a message by SMTP: `smtp://USER:PASSWORD@HOST:PORT?from=A&to=B`, `smtps://` for TLS from the start.

    Raises:
        NotToldError: the server cannot be reached, or refuses.
    """
    place = urlsplit(url.get_secret_value())
    people = parse_qs(place.query)
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = message.line[:120], people["from"][0], people["to"][0]
    mail.set_content(message.line)
    transport = smtplib.SMTP_SSL if place.scheme == "smtps" else smtplib.SMTP
    try:
        with transport(place.hostname or "", place.port or 0, timeout=SECONDS) as server:
            if place.scheme == "smtp" and server.has_extn("starttls"):
                server.starttls()
            if place.username:
                server.login(unquote(place.username), unquote(place.password or ""))
            server.send_message(mail)
    except (OSError, smtplib.SMTPException) as error:
        raise NotToldError(f"ALERT_MAIL_URL: {type(error).__name__}") from None


Channel = Callable[[Message], None]


def channels(secrets: Secrets) -> list[Channel]:
    """The channels that are configured; none is fine, the log tells every alarm, too."""
    found: list[Channel] = []
    if (webhook := secrets.alert_webhook_url) is not None:
        found.append(lambda message: by_webhook(webhook, message))
    if (mail := secrets.alert_mail_url) is not None:
        found.append(lambda message: by_mail(mail, message))
    return found


class Herald:
    """Remembers what was told by which channel, so that each is told once, and again later where it failed.

    Kept in memory: a monitor that starts again tells again what still stands.
    """

    def __init__(self, bot_id: str, channels: list[Channel]) -> None:
        self._bot_id = bot_id
        self._told: list[tuple[Channel, dict[str, Alarm]]] = [(channel, {}) for channel in channels]
        self.standing: dict[str, Alarm] = {}

    def tell(self, alarms: list[Alarm]) -> None:
        """Tell what is new and what is over since the last call."""
        now = {alarm.name: alarm for alarm in reversed(alarms)}  # of several of one name the first
        for name in now.keys() - self.standing.keys():
            log.error("alarm.raised", bot_id=self._bot_id, alarm=name, reason=now[name].text)
        for name in self.standing.keys() - now.keys():
            log.info("alarm.over", bot_id=self._bot_id, alarm=name)
        self.standing = now
        for channel, told in self._told:
            self._tell_one(channel, told, now)

    def _tell_one(self, channel: Channel, told: dict[str, Alarm], now: dict[str, Alarm]) -> None:
        raised = [Message(self._bot_id, now[name], raised=True) for name in sorted(now.keys() - told.keys())]
        over = [Message(self._bot_id, told[name], raised=False) for name in sorted(told.keys() - now.keys())]
        for message in (*raised, *over):
            try:
                channel(message)
            except NotToldError as error:
                log.error("alarm.not_told", alarm=message.alarm.name, reason=str(error))
                return  # the same channel would fail again; the next round tries
            if message.raised:
                told[message.alarm.name] = message.alarm
            else:
                del told[message.alarm.name]
