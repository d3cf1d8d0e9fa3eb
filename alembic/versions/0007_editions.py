"""editions: which copy wrote a file of the data set last, where machines share a store

Revision: 0007
After: 0006
"""

from __future__ import annotations

from sqlalchemy.dialects.postgresql import JSONB

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COMMENT = "Per file, in order: bytes that count (the closing bracket not among them), and posts."
NEW_COMMENT = (
    "Per file, in order: bytes that count (the closing bracket not among them), posts, and, where machines share a "
    "store, the edition: which copy wrote it last."
)


def upgrade() -> None:
    op.alter_column("data_sets", "files", comment=NEW_COMMENT, existing_comment=COMMENT, existing_type=JSONB())


def downgrade() -> None:
    # The older code does not know the word. The files of the machine that goes on have to be whole: it fetches none.
    op.execute(
        "UPDATE data_sets SET files = (SELECT jsonb_agg(entry - 'edition' ORDER BY number) "
        "FROM jsonb_array_elements(files) WITH ORDINALITY AS each(entry, number)) WHERE files <> '[]'"
    )
    op.alter_column("data_sets", "files", comment=COMMENT, existing_comment=NEW_COMMENT, existing_type=JSONB())
