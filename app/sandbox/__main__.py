"""`explorer sandbox`, or `python -m app.sandbox`: serve one sandbox on loopback until it is told to stop."""

from __future__ import annotations

import argparse
import gc
import json
import sys
from pathlib import Path
from typing import cast

from app.sandbox.communityfile import CommunityFileError
from app.sandbox.server import create_app
from app.sandbox.serving import listen, server_of
from app.sandbox.settings import MECHANISMS, TIERS, VOCABULARIES, Mechanism, Settings, Tier, Vocabulary
from app.sandbox.store import StateMismatchError


def main(arguments: list[str] | None = None) -> int:
    """Serve. Returns the exit status: 2 where it cannot start as it was told to."""
    args = _parser().parse_args(arguments)
    settings = Settings(
        state=args.state,
        community=args.community,
        mechanism=cast(Mechanism, args.mechanism),
        seed=args.seed,
        bot_id=args.bot_id,
        bot_handle=args.bot_handle.removeprefix("@"),
        tier=cast(Tier, args.tier),
        credits_usd=args.credits,
        post_cap=args.post_cap,
        vocabulary=cast(Vocabulary, args.vocabulary),
        public_client=args.public_client,
    )
    try:
        listener = listen(args.host, args.port)
        # What a start makes stays. The collector would look through all of it again and again, and so would every
        # collection while it serves.
        gc.disable()
        app = create_app(settings)
        gc.freeze()
    except (CommunityFileError, StateMismatchError, OSError) as error:
        sys.stderr.write(f"the sandbox cannot start: {error}\n")
        return 2
    finally:
        gc.enable()
    port = listener.getsockname()[1]
    if args.ready_file:
        _announce(args.ready_file, args.host, port)
    sys.stdout.write(f"The sandbox is at http://{args.host}:{port}, its state in {args.state}. Ctrl-C ends it.\n")
    sys.stdout.flush()
    server_of(app).run(sockets=[listener])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="explorer sandbox", description="An X of our own, with a community in it.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument(
        "--state", type=Path, default=Path("data/sandbox"), help="folder that keeps what must survive a restart"
    )
    parser.add_argument("--community", default="default", help="name of a shipped community, or a YAML file")
    parser.add_argument("--mechanism", choices=MECHANISMS, default="taste", help="how a text comes to its reactions")
    parser.add_argument("--seed", type=int, default=1, help="seed of everything that looks random")
    parser.add_argument("--bot-id", type=int, default=1_000_001, help="user id of the bot's account")
    parser.add_argument("--bot-handle", default="explorer_bot", help="handle of the bot's account")
    parser.add_argument("--tier", choices=TIERS, default="enterprise", help="access tier that X grants the bot")
    parser.add_argument(
        "--credits", type=float, metavar="USD", help="credits bought to begin with; else they never end"
    )
    parser.add_argument(
        "--post-cap", type=int, metavar="N", help="posts that may be read in a month, if not the tier's"
    )
    parser.add_argument(
        "--vocabulary",
        choices=VOCABULARIES,
        default="asked",
        help="answer with retweet_count, repost_count, or as asked",
    )
    parser.add_argument("--public-client", action="store_true", help="the app has no client secret (OAuth 2.0)")
    parser.add_argument("--ready-file", type=Path, help="where to write port and base_url once it listens")
    return parser


def _announce(path: Path, host: str, port: int) -> None:
    aside = path.with_name(f"{path.name}.part")
    aside.write_text(json.dumps({"port": port, "base_url": f"http://{host}:{port}"}), encoding="utf-8")
    aside.replace(path)


if __name__ == "__main__":
    sys.exit(main())
