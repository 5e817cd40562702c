"""Tasks that failed have a code beside their sentence."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Tasks that failed before keep their sentence alone, as tasks of an older service do."""
    op.add_column("task", sa.Column("error_code", sa.String(length=48), nullable=True))
