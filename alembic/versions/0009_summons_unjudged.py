"""summons_unjudged: who addresses the bot is selected without a judgement, and the comments say so

Revision: 0009
After: 0008
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# Of each column its table and type, and its comment before and now.
COMMENTS = (
    (
        "judgements",
        "selected_by",
        sa.Text(),
        "score, exploration, summons or none.",
        "score, exploration or none; in rows of before revision 0009 summons, too.",
    ),
    (
        "drafts",
        "judge_score",
        sa.Float(),
        "The judgement's score; NULL where nothing was judged.",
        "The judgement's score; NULL where nothing was judged: own posts, and answers to who addressed the bot.",
    ),
)


def upgrade() -> None:
    for table, column, kind, before, now in COMMENTS:
        op.alter_column(table, column, comment=now, existing_comment=before, existing_type=kind)


def downgrade() -> None:
    # The older code takes it that whatever is to be answered was judged: let it do so.
    op.execute(
        "UPDATE timeline_posts SET state = 'seen', state_reason = NULL WHERE state = 'selected' AND NOT EXISTS "
        "(SELECT FROM judgements WHERE judgements.bot_id = timeline_posts.bot_id "
        "AND judgements.x_post_id = timeline_posts.x_post_id)"
    )
    for table, column, kind, before, now in COMMENTS:
        op.alter_column(table, column, comment=before, existing_comment=now, existing_type=kind)
