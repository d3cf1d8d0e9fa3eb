"""the data set by the I/O workers, with claims on pages; what the account posted before the bot

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
    op.create_table(
        "earlier_posts",
        sa.Column("bot_id", sa.Text(), nullable=False, comment="The bot this row belongs to."),
        sa.Column("x_post_id", sa.Text(), nullable=False, comment="X id."),
        sa.Column("content", sa.Text(), nullable=False, comment="The text posted."),
        sa.Column(
            "text_hash",
            sa.Text(),
            nullable=False,
            comment="SHA-256 of the canonical text without the handles in front: what X would call a duplicate.",
        ),
        sa.Column("posted_at", sa.DateTime(timezone=True), nullable=False, comment="When X published it."),
        sa.Column("lang", sa.Text(), nullable=True, comment="Language as X detected it."),
        sa.Column(
            "target_post_id", sa.Text(), nullable=True, comment="X id of the post answered; NULL if it answers none."
        ),
        sa.Column("likes", sa.Integer(), nullable=True, comment="Likes when the archive was made."),
        sa.Column("retweets", sa.Integer(), nullable=True, comment="Reposts without a comment, likewise."),
        sa.Column(
            "read_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Wall time at which these counts were read from an archive.",
        ),
        sa.ForeignKeyConstraint(
            ["bot_id"], ["bots.bot_id"], name=op.f("fk_earlier_posts_bot_id_bots"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("bot_id", "x_post_id", name=op.f("pk_earlier_posts")),
        comment="What the bot's account posted before the bot wrote for it, from the archive that X hands out. Not in "
        "`bot_db`, whose every row says which weights, persona and prompt made it: nothing is learnt from these, "
        "they are measured no more, and nothing sends them again.",
    )
    op.create_index("ix_earlier_posts_newest", "earlier_posts", ["bot_id", "posted_at"])
    op.create_index("ix_earlier_posts_text", "earlier_posts", ["bot_id", "text_hash"])
    op.create_index("ix_earlier_posts_target", "earlier_posts", ["bot_id", "target_post_id"])


def downgrade() -> None:
    # The archive has them still: after the next upgrade `explorer data-set` reads them again.
    op.drop_table("earlier_posts")
    # A data set that the workers were gathering stays open; the older code goes on with it when it is called.
    op.drop_column("data_set_accounts", "claimed_until")
    op.drop_column("data_set_accounts", "claim_id")
    op.drop_column("data_sets", "waits_until")
    op.drop_column("data_sets", "by_workers")
