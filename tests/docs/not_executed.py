"""The documented commands that no test executes as they stand, each under the reason why.

An entry stands for every command that begins with it. One that no document names any more fails
`tests/docs/test_documents.py`.
"""

from __future__ import annotations

NOT_EXECUTED = {
    "needs a Docker engine: `make test-docker` does what they do": (
        "docker compose",
        "make test-docker",
    ),
    "needs Docker's engine, or a cluster: `tests/unit/test_kubernetes.py` reads the manifests": (
        "docker build",
        "kubectl",
    ),
    "needs a RabbitMQ: `tests/integration/test_rabbitmq.py` starts one": (
        "export BROKER_URL",
        "explorer doctor --only broker",
        "rabbitmqctl",
    ),
    "needs the rights of an administrator: `tests/integration/test_managed_postgres.py` does the same": (
        'psql --command="CREATE',
        'psql --command="GRANT',
        "export DATABASE_URL",
        "explorer doctor --only database",
    ),
    "asks a service outside for advisories: CI does it where there is one": ("make audit",),
    "needs an NVIDIA GPU": ("make test-gpu", "make bench GPU=1"),
    "needs a browser": ("make test-browser",),
    "takes many minutes, and has a test or a report of its own": (
        "make demo",
        "make prove",
        "make bench",
        "make chaos",
        "make test-proofs",
        "explorer backtest",
        "explorer lift",
        "explorer jump-start",
        "explorer kickoff",
        "celery -A app call app.tasks.jump_start",
    ),
    "shows what those runs came to: `tests/unit/test_compare.py` makes reports of its own": ("explorer compare",),
    "is carried out, in its order, by `tests/integration/test_restore.py`": (
        "export PGURL",
        "pg_dump",
        "pg_restore",
        'psql --command="UPDATE',
        "tar",
        "explorer pause --loop generation",
    ),
    "is these tests themselves, or what runs beside them": ("make test", "make lint", ".venv/bin/pytest"),
}


def begins(command: str, beginning: str) -> bool:
    """Whether a command begins with these words."""
    return command.startswith(beginning) and command[len(beginning) :][:1] in {"", " ", "="}


def reason_for(command: str) -> str | None:
    """Why a command is not executed; None if it is."""
    for reason, beginnings in NOT_EXECUTED.items():
        if any(begins(command, beginning) for beginning in beginnings):
            return reason
    return None
