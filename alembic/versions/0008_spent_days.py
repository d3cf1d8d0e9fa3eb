"""spent_days: what the ledger of a day comes to, so that the caps need not add up a month before every request

Revision: 0008
After: 0007
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "spent_days",
        sa.Column("bot_id", sa.Text(), nullable=False, comment="The bot this row belongs to."),
        sa.Column("day", sa.Date(), nullable=False, comment="UTC day of the world."),
        sa.Column(
            "usd",
            sa.Numeric(14, 6),
            nullable=False,
            comment="US dollars; a request under way counts with the most it could cost.",
        ),
        sa.ForeignKeyConstraint(
            ["bot_id"], ["bots.bot_id"], name=op.f("fk_spent_days_bot_id_bots"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("bot_id", "day", name=op.f("pk_spent_days")),
        comment="What the ledger of a day comes to, kept with it: the caps are asked before every request.",
    )
    op.execute(
        "INSERT INTO spent_days (bot_id, day, usd) "
        "SELECT bot_id, (at AT TIME ZONE 'UTC')::date, sum(coalesce(cost_usd, reserved_usd)) "
        "FROM request_ledger GROUP BY 1, 2 HAVING sum(coalesce(cost_usd, reserved_usd)) <> 0"
    )


def downgrade() -> None:
    op.drop_table("spent_days")
