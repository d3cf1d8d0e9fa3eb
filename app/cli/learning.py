"""Commands that open up what was learnt from: `explorer reward POST`."""

from __future__ import annotations

import json
import uuid
from typing import Annotated

import typer

from app.cli.common import DEFAULT_CONFIG, Config, bot

app = typer.Typer()


@app.command()
def reward(
    post_id: Annotated[str, typer.Argument(help="Our id of a post (bot_db.post_id) or of a draft.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Show how the reward of a post came about, term by term."""
    from sqlalchemy import or_, select

    from app.learning.reward import explain
    from dbs.models import Post, Reward

    context = bot(config)
    try:
        wanted = uuid.UUID(post_id)
    except ValueError:
        raise typer.BadParameter(f"{post_id!r} is not an id of ours (a uuid)", param_hint="POST_ID") from None
    of_post = select(Post.draft_id).where(Post.post_id == wanted, Post.bot_id == context.config.bot_id)
    with context.db.transaction() as session:
        rows = session.scalars(
            select(Reward)
            .where(Reward.bot_id == context.config.bot_id)
            .where(or_(Reward.draft_id == wanted, Reward.draft_id.in_(of_post)))
            .order_by(Reward.computed_at)
        ).all()
    if not rows:
        raise typer.BadParameter(f"{post_id} has no reward yet, or is not of this bot", param_hint="POST_ID")
    if as_json:
        told = [
            {"version": row.reward_version, "computed_at": row.computed_at.isoformat(), "terms": row.terms}
            for row in rows
        ]
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    for row in rows:
        typer.echo(f"reward {row.reward_version}, computed {row.computed_at:%F %T} UTC")
        typer.echo(explain(row.terms))
