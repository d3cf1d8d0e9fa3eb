"""Commands of approval mode: look at what waits for a person, and let it out or not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import DEFAULT_CONFIG, Config, bot

if TYPE_CHECKING:
    from rich.console import Console

    from app.approval import Waiting
    from app.context import BotContext

app = typer.Typer()
Drafts = Annotated[list[str] | None, typer.Argument(help="Ids of drafts, or their beginnings; none asks one by one.")]


@app.command()
def approve(
    drafts: Drafts = None,
    list_only: Annotated[bool, typer.Option("--list", help="Show what waits, and ask nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Show what waits as JSON, and ask nothing.")] = False,
    text: Annotated[str | None, typer.Option(help="What is posted instead of the text of the one draft given.")] = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Let drafts be posted that wait for a person (safety.approval): those given, or one by one."""
    from rich.console import Console

    from app import approval

    if text is not None and len(drafts or []) != 1:
        raise typer.BadParameter("a text is for one draft: give exactly one id", param_hint="--text")
    context, console = bot(config), Console()
    with context.db.transaction() as session:
        items = approval.waiting(session, context.config.bot_id)
    if as_json:
        typer.echo(json.dumps([vars(item) for item in items], default=str, indent=2, ensure_ascii=False))
    elif list_only:
        for item in items:
            _show(console, item)
        console.print(approval.summary(items))
    elif drafts:
        _approve(context, drafts, text)
    else:
        console.print(approval.summary(items))
        _ask(console, context, items)


@app.command()
def reject(
    draft: Annotated[str, typer.Argument(help="Id of a waiting draft, or its beginning.")],
    reason: Annotated[str | None, typer.Option(help="Why; kept with the draft.")] = None,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Never post a draft that waits for a person."""
    from app import approval

    context = bot(config)
    try:
        with context.db.transaction() as session:
            bot_id = context.config.bot_id
            approval.reject(session, bot_id, approval.find(session, bot_id, draft), reason)
    except approval.ApprovalError as error:
        raise _failed(error) from None
    typer.echo("rejected")


def _approve(context: BotContext, drafts: list[str], text: str | None) -> None:
    """All of them or none: one transaction."""
    from app import approval

    try:
        with context.db.transaction() as session:
            bot_id = context.config.bot_id
            for draft_id in [approval.find(session, bot_id, beginning) for beginning in drafts]:
                approval.approve(session, bot_id, draft_id, text)
    except approval.ApprovalError as error:
        raise _failed(error) from None
    typer.echo(f"{len(drafts)} approved; posted at the next turn of publishing")


def _ask(console: Console, context: BotContext, items: list[Waiting]) -> None:
    """Each draft by itself; what was answered stands, however the walk ends."""
    from rich.prompt import Prompt

    from app import approval

    bot_id = context.config.bot_id
    for item in items:
        _show(console, item)
        answer = Prompt.ask("approve, edit, reject, skip or quit", choices=list("aersq"), default="s", console=console)
        if answer == "q":
            return
        text = Prompt.ask("text", default=item.content, console=console) if answer == "e" else None
        try:
            with context.db.transaction() as session:
                if answer in {"a", "e"}:
                    approval.approve(session, bot_id, item.draft_id, text)
                elif answer == "r":
                    approval.reject(session, bot_id, item.draft_id)
        except approval.ApprovalError as error:  # somebody else was there, or the text is too long: on with the next
            console.print(f"[red]{error}[/]", highlight=False)


def _show(console: Console, item: Waiting) -> None:
    from rich.markup import escape

    console.rule(f"{item.draft_id}  {item.kind}", style="dim")
    if item.answered is not None:
        console.print(f"[bold]@{item.handle or '?'}[/]: {escape(item.answered)}", highlight=False)
    elif item.topic:
        console.print(f"on {escape(item.topic)}", style="dim", highlight=False)
    console.print(f"  [green]↳ {escape(item.content)}[/]", highlight=False)


def _failed(error: ValueError) -> typer.Exit:
    typer.echo(str(error), err=True)
    return typer.Exit(1)
