"""`explorer lift`: the lift of a backtest that has ended, measured again with more drafts of each prompt.

A backtest spends a tenth of its time on its lift, and the interval is as wide as that makes it: with 24 drafts of each
prompt it was a third to two thirds narrower than with six. Its world, its database and its checkpoints are still there.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from app import logs
from app.local.backtest import REPORT, BacktestError, Plan, backtest_config, said_at_last, write
from app.local.lift import ROWS, Measurement
from app.local.observer import Observer
from app.local.stack import alone, end_on_signals
from app.local.virtual import START, VirtualWorld, virtual_world
from app.policy.model import LanguageModel


def run(directory: Path, *, model: Path, drafts: int) -> dict[str, Any]:
    """Measure, and put it in the place of what `report.json` and `lift.png` say of the lift.

    Args:
        model: the base model that the backtest was run with.
        drafts: of each prompt, by the first and by the last checkpoint.

    Returns:
        The report.

    Raises:
        AlreadyRunning: the backtest still works in the directory.
        BacktestError: there is no backtest in the directory that has ended, or it was of another model.
    """
    logs.configure("WARNING")
    end_on_signals()
    with alone(directory):
        report, plan = _ended(directory, model)
        work = directory / "run"
        # When it ended: the sandbox's world goes on by this process's clock.
        then = START + timedelta(days=report["world_days"])
        with virtual_world(work, community=plan.community, mechanism=plan.mechanism, seed=plan.seed, at=then) as world:
            lift = _measured(work, plan, world, drafts)
        report |= lift
        report["safety"]["held_out"] = said_at_last(lift)
        write(report, directory)
    return report


def _ended(directory: Path, model: Path) -> tuple[dict[str, Any], Plan]:
    """What a backtest came to, and what it was asked for."""
    file = directory / REPORT
    if not file.is_file() or not (directory / "run" / "sandbox").is_dir():
        raise BacktestError(f"{directory} holds no backtest that has ended; name the --out of one")
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    plan = Plan(**(report["plan"] | {"model": model}))
    if plan.model.name != report["plan"]["model"]:
        raise BacktestError(f"--model: got {model}, but {file} is of {report['plan']['model']}; name that one")
    return report, plan


def _measured(work: Path, plan: Plan, world: VirtualWorld, drafts: int) -> dict[str, Any]:
    observer = Observer(world.x.base_url)
    config = backtest_config(work, plan, observer.handles(limit=1000))
    model = LanguageModel(config.model.model_copy(update={"batch_size": ROWS}))
    return Measurement(config, world.db, observer, model, drafts=drafts).run()
