#!/usr/bin/env bash
# Make and check the databases: bot_db, engagement_db, community_db, quotes_comments_db and what stands around them.
# The database is the one that DATABASE_URL names (environment or .env). Safe to run again at any time.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=python3

"$python" -m alembic upgrade head
"$python" -m alembic check
# The documents beside the models show what was made; a difference means that somebody forgot one of the two.
"$python" -m dbs.document --check
echo "databases are ready"
