"""The world behind the API: everybody's posts up to now, what they earned, and what the bot did in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal

from app import clock
from app.sandbox.chance import key
from app.sandbox.community import Community
from app.sandbox.people import Person
from app.sandbox.posts import Kind, Post, Shelf, count_until, snowflake, to_ms
from app.sandbox.reactions import Reactions
from app.sandbox.settings import Settings
from app.sandbox.store import Store
from app.text import mentions, text_hash

DUPLICATE_SPAN = timedelta(hours=24)
ALL_LOW_BITS = (1 << 22) - 1
KEPT_REACTIONS = 50_000
Standing = Literal["open", "protected", "suspended"]


@dataclass(frozen=True)
class Counts:
    """What a post has earned so far."""

    likes: int
    reposts: int
    replies: int
    quotes: int
    views: int

    @property
    def bookmarks(self) -> int:
        return self.likes // 5

    @property
    def profile_clicks(self) -> int:
        return self.views // 60

    @property
    def engagements(self) -> int:
        return self.likes + self.reposts + self.replies + self.quotes + self.bookmarks + self.profile_clicks


class World:
    """One world. `tick()` first, then ask."""

    def __init__(self, settings: Settings, community: Community, store: Store) -> None:
        self.settings, self.community, self.store = settings, community, store
        self.shelf = Shelf()
        kept = store.settle(
            born=clock.now().isoformat(),
            community=community.file.name,
            mechanism=settings.mechanism,
            seed=str(settings.seed),
            bot_id=str(settings.bot_id),
            bot_handle=settings.bot_handle,
        )
        self.born = datetime.fromisoformat(kept["born"])
        self.me = Person(
            settings.bot_id,
            settings.bot_handle,
            settings.bot_name,
            bio="Automated account. Reads along, asks questions, learns.",
            joined=self.born.replace(microsecond=0),
        )
        self.own: list[Post] = []
        self._said: dict[str, list[Post]] = defaultdict(list)
        self.deleted: dict[int, int] = store.removed()
        self.standings: dict[int, str] = store.standings()
        self.following_ids: list[int] = store.follows()
        self._to_own: dict[int, Reactions] = {}
        # Made again when they are forgotten, as members' texts are.
        self._to_members = lru_cache(maxsize=KEPT_REACTIONS)(community.member_reactions)
        self._blocked: dict[int, int] = {}
        self.now, self.until = self.born, 0
        self._come_up_to_now(history=True)
        for post, deleted_ms in store.posts():
            self._take_in(post)
            if deleted_ms is not None:
                self.deleted[post.id] = deleted_ms

    def tick(self) -> None:
        """Let the world come up to now. Time never goes back in it."""
        self._come_up_to_now(history=False)

    def _come_up_to_now(self, *, history: bool) -> None:
        self.now = max(self.now, clock.now())
        self.until = snowflake(self.now, ALL_LOW_BITS)
        start = self.born - timedelta(hours=self.community.file.history_hours)
        for post in self.community.posts_until(start, self.now):
            self.shelf.add(post, later=history)

    # --- what there is ---

    def post(self, post_id: int) -> Post | None:
        """A post that was made by now and is not deleted."""
        return None if post_id in self.deleted else self.shelf.get(post_id, self.until)

    def visible(self, ids: Iterable[int]) -> list[Post]:
        """The posts of these ids that there are, in their order."""
        return [post for post in map(self.post, ids) if post is not None]

    def person(self, user_id: int) -> Person | None:
        return self.me if user_id == self.me.id else self.community.people.by_id(user_id)

    def person_by_handle(self, handle: str) -> Person | None:
        return self.me if handle.lower() == self.me.handle.lower() else self.community.people.by_handle(handle)

    def followers(self, user_id: int) -> list[int]:
        """Who follows an account. The bot is followed by members who liked a few of its posts and did not block it."""
        if user_id == self.me.id:
            now = to_ms(self.now)
            liked = Counter(user for reactions in self._own_reactions() for user in reactions.likes.until(now))
            members = self.community.people.members
            wanted = {person.id: 1 + key(self.settings.seed, "befriend", person.id) % 4 for person in members}
            return [i for i, least in wanted.items() if liked[i] >= least and self._blocked.get(i, now + 1) > now]
        mine = [self.me.id] if user_id in self.following_ids else []
        return mine + self.community.people.followers(user_id)

    def following(self, user_id: int) -> list[int]:
        """Whom an account follows."""
        if user_id == self.me.id:
            return list(self.following_ids)
        return self.community.people.following(user_id)

    # --- what a post earned ---

    def counts(self, post: Post) -> Counts:
        """What a post has earned by now."""
        return self.counts_at(post, self.now)

    def counts_at(self, post: Post, at: datetime) -> Counts:
        """What a post had earned by a moment."""
        at = min(at, self.now)
        ms, until, reactions = to_ms(at), snowflake(at, ALL_LOW_BITS), self.reactions(post)
        likes = reactions.likes.count(ms)
        reposts = reactions.reposts.count(ms) + self._alive("repost", post.id, until)
        replies, quotes = self._alive("reply", post.id, until), self._alive("quote", post.id, until)
        arrived = self.community.share_arrived((at - post.at) / timedelta(minutes=1))
        views = max(int(reactions.views * arrived), likes + reposts + replies + quotes)
        return Counts(likes, reposts, replies, quotes, views)

    def _alive(self, kind: Kind, post_id: int, until: int) -> int:
        ids = self.shelf.answering(kind, post_id)
        return count_until(ids, until) - sum(i in self.deleted for i in ids)

    def likers(self, post: Post) -> list[int]:
        """Who liked a post, the latest first; as many as its count of likes."""
        return self.reactions(post).likes.until(to_ms(self.now))

    def reposters(self, post: Post) -> list[int]:
        """Who reposted a post; as many as its count of reposts."""
        shown = [p.author for p in self.visible(self.shelf.answering("repost", post.id))]
        return shown[::-1] + self.reactions(post).reposts.until(to_ms(self.now))

    def reactions(self, post: Post) -> Reactions:
        """All that a post will ever earn."""
        own = self._to_own.get(post.id)
        if own is not None:
            return own
        return Reactions() if post.kind == "repost" else self._to_members(post)

    def blocked_by_now(self) -> list[int]:
        """Accounts that block the bot."""
        now = to_ms(self.now)
        return [user for user, ms in self._blocked.items() if ms <= now]

    def _own_reactions(self) -> list[Reactions]:
        return [self._to_own[post.id] for post in self.own]

    # --- what the bot does ---

    def repeats(self, text: str) -> bool:
        """Whether X would call a text, as it would be shown, a duplicate of a recent own post."""
        since, wanted = snowflake(self.now - DUPLICATE_SPAN, 0), text_hash(text)
        return any(p.id > since and p.id not in self.deleted for p in self._said.get(wanted, []))

    def compose(self, text: str, kind: Kind, target: Post | None) -> Post:
        """The post that a text would become: a reply gets the mention of whom it answers, as X puts it there."""
        prefix = ""
        if kind == "reply" and target is not None and target.author != self.me.id:
            author = self.person(target.author)
            handle = author.handle if author else ""
            prefix = "" if handle.lower() in mentions(text) else f"@{handle} "
        return Post(
            id=self._fresh_id(),
            author=self.me.id,
            text=prefix + text,
            kind=kind,
            target=target.id if target else None,
            target_author=target.author if target else None,
            root=target.conversation if kind == "reply" and target else 0,
            body_start=len(prefix),
            topic=target.topic if target else None,
            substance="bot",
        )

    def publish(self, post: Post) -> None:
        """Make a composed post part of the world. Call it in a transaction."""
        self.store.add_post(post)
        self._take_in(post)
        self.until = max(self.until, post.id)

    def delete(self, post: Post) -> None:
        """Take a post away: one of the bot's, or a member's own doing. Call it in a transaction."""
        if post.author == self.me.id:
            self.store.delete_post(post.id, to_ms(self.now))
        else:
            self.store.remove(post.id, to_ms(self.now))
        self.deleted[post.id] = to_ms(self.now)

    def set_standing(self, user_id: int, standing: Standing) -> None:
        """Suspend an account, let it protect its posts, or open it again. Call it in a transaction."""
        self.store.set_standing(user_id, standing)
        self.standings = self.store.standings()

    def follow(self, user_id: int) -> None:
        if user_id not in self.following_ids:
            self.store.follow(user_id, to_ms(self.now))
            self.following_ids.insert(0, user_id)

    def unfollow(self, user_id: int) -> None:
        if user_id in self.following_ids:
            self.store.unfollow(user_id)
            self.following_ids.remove(user_id)

    def _take_in(self, post: Post) -> None:
        """Shelve an own post with everything that it will ever earn."""
        parent = self.shelf.by_id.get(post.target) if post.target else None
        reactions = self.community.react(post, parent, self.own, self._blocked)
        self.shelf.add(post)
        self.own.append(post)
        self._said[text_hash(post.text)].append(post)
        self._to_own[post.id] = reactions
        for answer in reactions.written:
            if answer.id not in self.shelf.by_id:
                self.shelf.add(answer)
        for ms, user in zip(reactions.blocks.times, reactions.blocks.users, strict=True):
            self._blocked[user] = min(ms, self._blocked.get(user, ms))

    def _fresh_id(self) -> int:
        low = key(self.settings.seed, "own", len(self.own)) & ALL_LOW_BITS
        fresh = snowflake(self.now.astimezone(UTC), low)
        last = self.own[-1].id if self.own else 0
        fresh = max(fresh, last + 1)
        while fresh in self.shelf.by_id:
            fresh += 1
        return fresh
