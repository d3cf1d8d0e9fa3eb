"""the data set by the I/O workers: claims on pages

Revision: 0006
After: 0005
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "data_sets",
        sa.Column(
            "by_workers",
            sa.Boolean(),
            nullable=False,
            # Of one that was begun before; whoever makes a row says it.
            server_default=sa.false(),
            comment="Whether the I/O workers gather it, as the kick-off has them do, or whoever called for it alone.",
        ),
    )
    op.alter_column("data_sets", "by_workers", server_default=None)
    op.add_column(
        "data_sets",
        sa.Column(
            "waits_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="World time before which the workers ask for no page; NULL if they need not wait.",
        ),
    )
    op.add_column(
        "data_set_accounts",
        sa.Column(
            "claim_id",
            sa.Uuid(),
            nullable=True,
            comment="Whose its next page is: first of the message that asks for it, then of the worker that reads it.",
        ),
    )
    op.add_column(
        "data_set_accounts",
        sa.Column(
            "claimed_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Wall time at which that claim lapses; NULL where there is none.",
        ),
    )


def downgrade() -> None:
    # A data set that the workers were gathering stays open; the older code goes on with it when it is called.
    op.drop_column("data_set_accounts", "claimed_until")
    op.drop_column("data_set_accounts", "claim_id")
    op.drop_column("data_sets", "waits_until")
    op.drop_column("data_sets", "by_workers")
