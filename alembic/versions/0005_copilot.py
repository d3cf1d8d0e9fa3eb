"""co-pilot: drafts offered to a person, posts that a person sends, and the choices

Revision: 0005
After: 0004
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Columns whose words grow: table, column, old and new words, old and new comment.
WORDS = (
    (
        "drafts",
        "state",
        ("approved", "waiting", "rejected", "used"),
        ("approved", "waiting", "offered", "rejected", "used"),
        "approved, waiting for a person, rejected, or used in a post.",
        "approved, waiting for a person, offered to one, rejected, or used in a post.",
    ),
    (
        "bot_db",
        "state",
        ("queued", "sending", "posted", "unconfirmed", "failed", "rejected", "dry"),
        ("queued", "sending", "posted", "unconfirmed", "failed", "rejected", "dry", "awaited"),
        "queued, sending, posted, unconfirmed, failed, rejected or dry.",
        "queued, sending, posted, unconfirmed, failed, rejected, dry, or awaited: given to a person to post.",
    ),
    (
        "checkpoints",
        "kind",
        ("base", "sft", "ppo"),
        ("base", "sft", "ppo", "dpo"),
        "base (no adapter), sft or ppo.",
        "base (no adapter), sft, ppo or dpo.",
    ),
    ("training_runs", "kind", ("sft", "ppo"), ("sft", "ppo", "dpo"), "sft or ppo.", "sft, ppo or dpo."),
)
RUNS = "Every run of SFT or PPO. At most one runs per bot; `fence` ends the claims of an older one."
NEW_RUNS = "Every run of SFT, PPO or DPO. At most one runs per bot; `fence` ends the claims of an older one."
EXPIRY = "World time after which it is too late to send."
NEW_EXPIRY = "World time after which it is too late to send, or to be looked for any more."
PERSONS = "ck_bot_db_what_a_person_sends_is_never_sent"
LIVE = "state IN ('queued', 'sending', 'posted', 'unconfirmed')"


def upgrade() -> None:
    for table, column, _, words, comment, new_comment in WORDS:
        _reword(table, column, words, comment, new_comment)
    op.create_table_comment("training_runs", NEW_RUNS, existing_comment=RUNS)
    op.alter_column("bot_db", "expires_at", comment=NEW_EXPIRY, existing_comment=EXPIRY)
    op.create_check_constraint(op.f(PERSONS), "bot_db", "sent_by = 'bot' OR state IN ('awaited', 'posted', 'rejected')")
    _unique_texts(f"{LIVE} AND sent_by = 'bot'")
    op.create_index("ix_bot_db_awaited", "bot_db", ["bot_id", "due_at"], postgresql_where=sa.text("state = 'awaited'"))
    op.create_table(
        "preferences",
        sa.Column("preference_id", sa.Uuid(), nullable=False, comment="Ours."),
        sa.Column("bot_id", sa.Text(), nullable=False, comment="The bot this row belongs to."),
        sa.Column("target_post_id", sa.Text(), nullable=False, comment="X id of the post that both answer."),
        sa.Column("chosen_draft_id", sa.Uuid(), nullable=False, comment="The draft chosen; its prompt is the pair's."),
        sa.Column("rejected_draft_id", sa.Uuid(), nullable=False, comment="The other one."),
        sa.Column(
            "edited_text",
            sa.Text(),
            nullable=True,
            comment="What the person made of the chosen draft, in the end at X; NULL where it stands as sampled.",
        ),
        sa.Column(
            "chosen_by",
            sa.Text(),
            nullable=False,
            comment="Where the choice was made, e.g. console, whose one password does not tell persons apart.",
        ),
        sa.Column("chosen_at", sa.DateTime(timezone=True), nullable=False, comment="Wall time."),
        sa.Column("run_id", sa.Uuid(), nullable=True, comment="The last run that learnt from it."),
        sa.ForeignKeyConstraint(
            ["bot_id"], ["bots.bot_id"], name=op.f("fk_preferences_bot_id_bots"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["chosen_draft_id"],
            ["drafts.draft_id"],
            name=op.f("fk_preferences_chosen_draft_id_drafts"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["rejected_draft_id"],
            ["drafts.draft_id"],
            name=op.f("fk_preferences_rejected_draft_id_drafts"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["training_runs.run_id"],
            name=op.f("fk_preferences_run_id_training_runs"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("preference_id", name=op.f("pk_preferences")),
        comment="Which of two drafts for a post a person chose, in co-pilot mode, and what he or she made of it.",
    )
    op.create_index("uq_preferences_target", "preferences", ["bot_id", "target_post_id"], unique=True)
    op.create_index("ix_preferences_drafts", "preferences", ["chosen_draft_id", "rejected_draft_id"])


def downgrade() -> None:
    # The older code knows neither a draft that is offered nor a post that somebody else sends.
    op.execute(
        "UPDATE drafts SET state = 'rejected', reject_rule = 'withheld', "
        "reject_reason = 'it was offered to a person when the schema was taken back' WHERE state = 'offered'"
    )
    op.execute(
        "UPDATE bot_db SET state = 'rejected', state_reason = 'a person was to post it when the schema was taken back' "
        "WHERE state = 'awaited'"
    )
    # It would learn from a text that a person chose as if chance had.
    op.execute("UPDATE bot_db SET edited = true WHERE sent_by = 'person'")
    # Its unique texts know no exception for what persons say.
    op.execute(
        "UPDATE bot_db SET text_hash = text_hash || ':' || post_id WHERE sent_by = 'person' AND EXISTS ("
        "SELECT 1 FROM bot_db other WHERE other.bot_id = bot_db.bot_id AND other.text_hash = bot_db.text_hash "
        "AND other.post_id <> bot_db.post_id)"
    )
    # The files of such a checkpoint still say what it is, and the older code refuses to load them: roll back before.
    op.execute("UPDATE checkpoints SET kind = 'ppo' WHERE kind = 'dpo'")
    op.execute("UPDATE training_runs SET kind = 'ppo' WHERE kind = 'dpo'")
    op.drop_table("preferences")
    op.drop_index("ix_bot_db_awaited", "bot_db")
    _unique_texts(LIVE)
    op.drop_constraint(op.f(PERSONS), "bot_db", type_="check")
    op.alter_column("bot_db", "expires_at", comment=EXPIRY, existing_comment=NEW_EXPIRY)
    op.create_table_comment("training_runs", RUNS, existing_comment=NEW_RUNS)
    for table, column, words, _, comment, new_comment in WORDS:
        _reword(table, column, words, new_comment, comment)


def _reword(table: str, column: str, words: tuple[str, ...], old_comment: str, comment: str) -> None:
    """Let a column hold other words. The old check goes first; the rows fit the new one by now."""
    check = op.f(f"ck_{table}_{column}_known")
    op.drop_constraint(check, table, type_="check")
    op.create_check_constraint(check, table, f"{column} IN ({', '.join(repr(word) for word in words)})")
    op.alter_column(table, column, comment=comment, existing_comment=old_comment, existing_type=sa.Text())


def _unique_texts(where: str) -> None:
    op.drop_index("uq_bot_db_text", "bot_db")
    op.create_index("uq_bot_db_text", "bot_db", ["bot_id", "text_hash"], unique=True, postgresql_where=sa.text(where))
