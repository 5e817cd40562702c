"""What is read only has exports of its own; vDisks have a durability."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply. Exports and grants that are there stay where they are: each is served by its vDisk's head."""
    _export()
    with op.batch_alter_table("grant", schema=None) as batch_op:
        batch_op.add_column(sa.Column("export_guid", sa.String(length=36), nullable=True))
        batch_op.add_column(sa.Column("cut_off_at", sa.Double(), nullable=True))
    op.execute('UPDATE "grant" SET export_guid = vdisk_guid')
    with op.batch_alter_table("grant", schema=None) as batch_op:
        batch_op.alter_column("export_guid", existing_type=sa.String(length=36), nullable=False)
        batch_op.create_index(batch_op.f("ix_grant_export_guid"), ["export_guid"], unique=False)
    op.add_column("vdisk", sa.Column("durability", sa.String(length=16), nullable=True))


def _export() -> None:
    """Make the table anew, with another primary key. A daemon that runs was started by an older version."""
    bind = op.get_bind()
    found = bind.execute(sa.text("SELECT * FROM export")).mappings().all()
    op.drop_table("export")
    table = op.create_table(
        "export",
        sa.Column("guid", sa.String(length=36), nullable=False),
        sa.Column("vdisk_guid", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("source_name", sa.String(length=128), nullable=True),
        sa.Column("node_guid", sa.String(length=36), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("start_time", sa.BigInteger(), nullable=True),
        sa.Column("boot_id", sa.String(length=36), nullable=True),
        sa.Column("durability", sa.String(length=16), nullable=True),
        sa.Column("unclean", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["node_guid"], ["storagerouter.guid"], name=op.f("fk_export_node_guid")),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_export")),
        sa.UniqueConstraint("address", "port", name=op.f("uq_export_address_port")),
    )
    with op.batch_alter_table("export", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_export_vdisk_guid"), ["vdisk_guid"], unique=False)
    rows = [{**row, "guid": row["vdisk_guid"], "kind": "head", "unclean": row["pid"] is not None} for row in found]
    if rows:
        op.bulk_insert(table, rows)
