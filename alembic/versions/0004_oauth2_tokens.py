"""oauth2_tokens: what OAuth 2.0 needs to be renewed, sealed

Revision: 0004
After: 0003
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "oauth2_tokens",
        sa.Column("bot_id", sa.Text(), nullable=False, comment="The bot this row belongs to."),
        sa.Column("user_id", sa.Text(), nullable=False, comment="X id of the account that consented."),
        sa.Column(
            "salt",
            sa.LargeBinary(),
            nullable=False,
            comment="Random, new at each sealing. HKDF-SHA256 makes the key from it and X_CLIENT_SECRET.",
        ),
        sa.Column(
            "sealed",
            sa.Text(),
            nullable=False,
            comment="Fernet token of a JSON object: the access token, and the refresh token, which is good for one use.",
        ),
        sa.Column(
            "obtained_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="World time at which X gave this pair.",
        ),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="World time at which the access token ends.",
        ),
        sa.Column(
            "refused",
            sa.Text(),
            nullable=True,
            comment="Why X renews it no more: a person has to run explorer login. NULL while it does.",
        ),
        sa.ForeignKeyConstraint(
            ["bot_id"], ["bots.bot_id"], name=op.f("fk_oauth2_tokens_bot_id_bots"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("bot_id", name=op.f("pk_oauth2_tokens")),
        comment="The tokens of OAuth 2.0 that all workers of a bot share, sealed with X_CLIENT_SECRET; a bot with OAuth 1.0a has no row. Neither exported nor shown.",
    )


def downgrade() -> None:
    # Nothing is lost for good: whoever comes back to this schema runs `explorer login` again.
    op.drop_table("oauth2_tokens")
