"""approval: drafts wait for a person

Revision: 0003
After: 0002
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CONSTRAINT = "ck_drafts_state_known"
COMMENT = "approved, rejected, or used in a post."
NEW_COMMENT = "approved, waiting for a person, rejected, or used in a post."


def upgrade() -> None:
    op.drop_constraint(op.f(CONSTRAINT), "drafts", type_="check")
    op.create_check_constraint(op.f(CONSTRAINT), "drafts", "state IN ('approved', 'waiting', 'rejected', 'used')")
    op.alter_column("drafts", "state", comment=NEW_COMMENT, existing_comment=COMMENT, existing_type=sa.Text())
    op.add_column(
        "drafts",
        sa.Column(
            "approved_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Wall time at which a person approved it; NULL where only the rules did.",
        ),
    )


def downgrade() -> None:
    # The older code knows no draft that waits, and would post one that it took for approved.
    op.execute(
        "UPDATE drafts SET state = 'rejected', reject_rule = 'withheld', "
        "reject_reason = 'it waited for a person when the schema was taken back' WHERE state = 'waiting'"
    )
    op.drop_column("drafts", "approved_at")
    op.alter_column("drafts", "state", comment=COMMENT, existing_comment=NEW_COMMENT, existing_type=sa.Text())
    op.drop_constraint(op.f(CONSTRAINT), "drafts", type_="check")
    op.create_check_constraint(op.f(CONSTRAINT), "drafts", "state IN ('approved', 'rejected', 'used')")
