"""`explorer community …`: who is in it, and how the bot may treat each."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from app.cli.common import DEFAULT_CONFIG, Config, bot
from dbs.states import ReplyPolicy

app = typer.Typer(help="Who is in the community, and how the bot may treat each.", no_args_is_help=True)


@app.command("list")
def community_list(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Everybody the bot follows or has met, those who joined first first."""
    from rich.console import Console
    from rich.table import Table
    from sqlalchemy import select

    from dbs.models import Community, Membership

    context = bot(config)
    statement = (
        select(Community.handle, Membership)
        .join(Membership, Membership.user_id == Community.user_id)
        .where(Membership.bot_id == context.config.bot_id)
        .order_by(Membership.joined_at, Membership.user_id)
    )
    with context.db.transaction() as session:
        rows = [
            {
                "handle": handle,
                "user_id": member.user_id,
                "follow": member.follow_state,
                "policy": member.reply_policy,
                "asked to stop": f"{member.opted_out_at:%F %T}" if member.opted_out_at else "",
            }
            for handle, member in session.execute(statement)
        ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    table = Table("handle", "user_id", "follow", "policy", "asked to stop")
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)


@app.command("policy")
def community_policy(
    handle: Annotated[str, typer.Argument(help="The user's handle.")],
    policy: Annotated[ReplyPolicy, typer.Argument(help="reply; watch: read, not answered; block: not read either.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Say how the bot may treat somebody. What waits to be sent to them is held back at once."""
    from app.connectors.community_db import CommunityDB

    context = bot(config)
    try:
        with context.db.transaction() as session:
            user_id = CommunityDB(session, context.config.bot_id).set_policy(handle, policy)
    except LookupError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    typer.echo(f"@{handle.removeprefix('@')} ({user_id}): {policy.value}")
