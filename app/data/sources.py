"""Where posts come from, behind one interface: pages of accounts, each page after a cursor that outlives a process.

X is in `app/data/x_source.py`; here are the sources that lie on disk and cost nothing.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from app.config import SFTConfig
from app.data.records import SourcePost
from app.loading import ConfigError
from app.x.parse import id_of, text_of, time_of
from dbs.states import SourceState

PAGE = 2000  # posts of a page, where nothing but memory limits it: a commit and an fsync for each
ONE = "all"  # the account of a source that does not know accounts


@dataclass(frozen=True)
class SourcePage:
    """Some posts of one account.

    Attributes:
        cursor: where the next page begins; None if the account has no more.
        state, reason: why it has no more; of use only then.
        read: posts that the source gave, some of which may be unreadable.
        usd: what the page cost.
    """

    posts: list[SourcePost]
    cursor: str | None
    state: SourceState = SourceState.EXHAUSTED
    reason: str | None = None
    read: int = 0
    usd: float = 0.0


class Source(Protocol):
    """A place that posts come from."""

    def accounts(self) -> list[str]:
        """Its accounts, in the order of the round."""

    def page(self, account: str, cursor: str | None, read: int) -> SourcePage:
        """The page of an account that begins at a cursor; the same page whoever asks for it again.

        Args:
            read: posts of the account read so far.
        """

    def page_usd(self) -> float:
        """The most that a page can cost, in US dollars."""


def local_source(config: SFTConfig) -> Source:
    """The source on disk that the config names.

    Raises:
        ConfigError: it is not there, or not what the config says it is.
    """
    path = Path(config.path or "")
    if not path.exists():
        raise ConfigError(
            f"sft.path: got {str(path)!r}, which is not there; name what sft.source={config.source!r} means"
        )
    made: dict[str, type[ArchiveSource | JSONLSource | DiskSource]] = {
        "archive": ArchiveSource,
        "jsonl": JSONLSource,
        "dataset": DiskSource,
    }
    return made[config.source](path)


class _OneAccount:
    """What the sources on disk share."""

    def accounts(self) -> list[str]:
        return [ONE]

    def page_usd(self) -> float:
        return 0.0


class JSONLSource(_OneAccount):
    """A file with one JSON object a line: `text`, and any of `id`, `author_id`, `created_at`, `lang`,
    `in_reply_to_post_id`, `parent_text`. The cursor is a byte offset.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise ConfigError(f"sft.path: got {str(path)!r}; sft.source='jsonl' needs a file")

    def page(self, account: str, cursor: str | None, read: int) -> SourcePage:  # noqa: ARG002 - the interface
        posts: list[SourcePost] = []
        given = 0
        with self._path.open("rb") as file:
            file.seek(int(cursor or 0))
            while given < PAGE and (line := file.readline()):
                at = file.tell() - len(line)
                if line.strip():
                    given += 1
                    posts.append(post_from(_object(line, f"{self._path}, byte {at}"), f"{self._path.name}-{at}"))
            end = file.tell()
            more = bool(file.readline())
        return SourcePage(posts, str(end) if more else None, read=given)


class DiskSource(_OneAccount):
    """A Hugging Face data set that `save_to_disk` wrote, with the columns of `JSONLSource`. The cursor is a row."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _rows(self) -> Any:
        from datasets import DatasetDict, load_from_disk  # pyarrow: only for whoever has such a data set

        try:
            rows = load_from_disk(str(self._path))
        except (FileNotFoundError, ValueError) as error:
            raise ConfigError(f"sft.path: {self._path} is no data set that save_to_disk wrote: {error}") from error
        if isinstance(rows, DatasetDict):
            rows = rows["train"] if "train" in rows else next(iter(rows.values()))
        if "text" not in rows.column_names:
            raise ConfigError(f"sft.path: {self._path} has no column 'text', only {', '.join(rows.column_names)}")
        return rows

    def page(self, account: str, cursor: str | None, read: int) -> SourcePage:  # noqa: ARG002 - the interface
        first = int(cursor or 0)
        last = min(first + PAGE, len(self._rows))
        posts = [post_from(self._rows[row], f"{self._path.name}-{row}") for row in range(first, last)]
        return SourcePage(posts, str(last) if last < len(self._rows) else None, read=last - first)


@dataclass(frozen=True)
class OwnPost:
    """A post of one's own with what it earned, as the archive has it."""

    post: SourcePost
    likes: int | None
    retweets: int | None


@dataclass
class ArchiveSource(_OneAccount):
    """One's own X archive, the zip that X hands out: `data/tweets.js` and its parts. The cursor is a place in it."""

    path: Path
    account: str | None = field(init=False, default=None)  # X id of whose it is; None if it does not say
    _posts: list[OwnPost] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        if not zipfile.is_zipfile(self.path):
            raise ConfigError(f"sft.path: {self.path} is no zip; name the file that X's 'Download your data' gave you")
        # Sorted: the parts of an archive come in no order. An archive is one person's posts, so it fits in memory.
        self._posts = sorted(self._read(), key=lambda own: int(own.post.post_id), reverse=True)

    def page(self, account: str, cursor: str | None, read: int) -> SourcePage:  # noqa: ARG002 - the interface
        first = int(cursor or 0)
        chosen = self._posts[first : first + PAGE]
        end = first + len(chosen)
        return SourcePage([own.post for own in chosen], str(end) if end < len(self._posts) else None, read=len(chosen))

    def own_posts(self) -> list[OwnPost]:
        """Every post, with its counts, the newest first."""
        return list(self._posts)

    def _read(self) -> Iterator[OwnPost]:
        with zipfile.ZipFile(self.path) as archive:
            self.account = _account_id(archive)
            names = [name for name in archive.namelist() if _is_tweets(name)]
            if not names:
                raise ConfigError(f"sft.path: {self.path} holds no data/tweets.js; it is no archive of X's")
            texts: dict[str, str] = {}
            found: list[tuple[SourcePost, Mapping[str, Any]]] = []
            for name in names:
                for item in _assigned(archive.read(name), f"{self.path}: {name}"):
                    raw = item.get("tweet", item)
                    post = _archived(raw, self.account or ONE)
                    if post is not None:
                        found.append((post, raw))
                        texts[post.post_id] = post.text
        for post, raw in found:
            parent = texts.get(post.in_reply_to_post_id or "")
            whole = SourcePost(
                post.post_id, post.author_id, post.text, post.created_at, post.lang, post.in_reply_to_post_id, parent,
                post.reposted,
            )  # fmt: skip
            yield OwnPost(whole, _number(raw.get("favorite_count")), _number(raw.get("retweet_count")))


def post_from(raw: Mapping[str, Any], fallback_id: str) -> SourcePost:
    """A post from a JSON object in our names or in those of X's API."""
    created = raw.get("created_at")
    return SourcePost(
        post_id=str(raw.get("post_id") or raw.get("id") or fallback_id),
        author_id=str(raw.get("author_id") or ONE),
        text=text_of(raw.get("text")) or "",
        created_at=created if isinstance(created, datetime) else time_of(created),
        lang=text_of(raw.get("lang")),
        in_reply_to_post_id=text_of(raw.get("in_reply_to_post_id")),
        parent_text=text_of(raw.get("parent_text")),
    )


def _object(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        raw = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: no JSON ({error}); remove or mend the line") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("text"), str):
        raise ConfigError(f"{where}: got {line[:60]!r}; each line is an object with a 'text'")
    return raw


def _is_tweets(name: str) -> bool:
    base = name.rsplit("/", 1)[-1]
    return name.startswith("data/") and (base in {"tweets.js", "tweet.js"} or base.startswith("tweets-part"))


def _assigned(script: bytes, where: str) -> Iterable[Mapping[str, Any]]:
    """The value of `window.YTD.… = [...]`, which is how X writes JSON into an archive."""
    _, _, value = script.partition(b"=")
    try:
        items = json.loads(value)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} cannot be read: {error}; download the archive again") from None
    return [item for item in items if isinstance(item, dict)]


def _account_id(archive: zipfile.ZipFile) -> str | None:
    if "data/account.js" not in archive.namelist():
        return None
    for item in _assigned(archive.read("data/account.js"), "data/account.js"):
        account = item.get("account", item)
        found = id_of(account.get("accountId")) if isinstance(account, dict) else None
        if found:
            return found
    return None


def _archived(raw: Mapping[str, Any], author: str) -> SourcePost | None:
    post_id, text = id_of(raw.get("id_str") or raw.get("id")), text_of(raw.get("full_text") or raw.get("text"))
    if post_id is None or text is None:
        return None
    return SourcePost(
        post_id=post_id,
        author_id=author,
        text=text,
        created_at=_archive_time(raw.get("created_at")),
        lang=text_of(raw.get("lang")),
        in_reply_to_post_id=id_of(raw.get("in_reply_to_status_id_str") or raw.get("in_reply_to_status_id")),
        reposted=text.startswith("RT @"),
    )


def _archive_time(raw: object) -> datetime | None:
    """`Wed Oct 10 20:19:24 +0000 2018`, as archives have it."""
    if not isinstance(raw, str):
        return None
    try:
        return datetime.strptime(raw, "%a %b %d %H:%M:%S %z %Y").astimezone(UTC)
    except ValueError:
        return time_of(raw)


def _number(raw: object) -> int | None:
    return int(raw) if isinstance(raw, int | str) and str(raw).isdecimal() else None
