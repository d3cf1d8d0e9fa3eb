"""An observation of a bot that fares well, with every part there."""

from __future__ import annotations

from app import clock
from app.monitor.backlog import WORK, Backlog
from app.monitor.checkpoints import Earned, Reload, Served
from app.monitor.observation import Batches, LoopSeen, Observation, WindowSeen

HEALTHY = Observation(
    at=clock.wall_now(),
    stopped=None,
    loops=[LoopSeen("timeline", paused=False, turns=9, late=3.0, error=None)],
    posts={"posted": 12},
    drafts={"used": 12},
    backlog={work: Backlog(queue, 1, 40.0) for work, (queue, *_) in WORK.items()},
    lost=0,
    spent_day=1.0,
    spent_month=20.0,
    requests={("GET /2/tweets", "ok"): 9, ("POST /2/tweets", "dry"): 3, ("POST /2/tweets", "ServerError"): 2},
    windows=[WindowSeen("1000001", "GET /2/tweets", 900, 5000, 4990)],
    barred={},
    served=Served("a-checkpoint", "ppo", None),
    earned=[Earned("a-checkpoint", "ppo", 0, None, None), Earned("its-parent", "base", 4, 0.5, 3.0)],
    reload=Reload(0.2, None),
    refusals=2,
    failures=1,
    training=False,
    reward=0.1,
    engagement=4.0,
    batches=Batches(3, 12, 400, 9.0),
    queues={"timeline": 1, "training": 0},
)
