"""First schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "layer",
        sa.Column("guid", sa.String(length=36), nullable=False),
        sa.Column("parent_guid", sa.String(length=36), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["parent_guid"], ["layer.guid"], name=op.f("fk_layer_parent_guid")),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_layer")),
    )
    with op.batch_alter_table("layer", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_layer_parent_guid"), ["parent_guid"], unique=False)
        batch_op.create_index(batch_op.f("ix_layer_state"), ["state"], unique=False)

    op.create_table(
        "setting",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_setting")),
    )
    op.create_table(
        "storagerouter",
        sa.Column("guid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("machine_id", sa.String(length=64), nullable=False),
        sa.Column("ip", sa.String(length=64), nullable=False),
        sa.Column("node_type", sa.String(length=8), nullable=False),
        sa.Column("last_heartbeat", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_storagerouter")),
        sa.UniqueConstraint("ip", name=op.f("uq_storagerouter_ip")),
        sa.UniqueConstraint("machine_id", name=op.f("uq_storagerouter_machine_id")),
        sa.UniqueConstraint("name", name=op.f("uq_storagerouter_name")),
    )
    op.create_table(
        "user",
        sa.Column("guid", sa.String(length=36), nullable=False),
        sa.Column("username", sa.String(length=255), nullable=False),
        sa.Column("group", sa.String(length=32), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_user")),
        sa.UniqueConstraint("username", name=op.f("uq_user_username")),
    )
    op.create_table(
        "vpool",
        sa.Column("guid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("backend", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_vpool")),
        sa.UniqueConstraint("name", name=op.f("uq_vpool_name")),
    )
    op.create_table(
        "export",
        sa.Column("vdisk_guid", sa.String(length=36), nullable=False),
        sa.Column("node_guid", sa.String(length=36), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("start_time", sa.BigInteger(), nullable=True),
        sa.Column("boot_id", sa.String(length=36), nullable=True),
        sa.ForeignKeyConstraint(["node_guid"], ["storagerouter.guid"], name=op.f("fk_export_node_guid")),
        sa.PrimaryKeyConstraint("vdisk_guid", name=op.f("pk_export")),
        sa.UniqueConstraint("address", "port", name=op.f("uq_export_address_port")),
    )
    op.create_table(
        "oauth_client",
        sa.Column("guid", sa.String(length=36), nullable=False),
        sa.Column("user_guid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=True),
        sa.Column("secret_hash", sa.String(length=255), nullable=True),
        sa.Column("ovs_type", sa.String(length=16), nullable=False),
        sa.Column("grant_type", sa.String(length=32), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_guid"], ["user.guid"], name=op.f("fk_oauth_client_user_guid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_oauth_client")),
    )
    with op.batch_alter_table("oauth_client", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_oauth_client_user_guid"), ["user_guid"], unique=False)

    op.create_table(
        "storagedriver",
        sa.Column("guid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("vpool_guid", sa.String(length=36), nullable=False),
        sa.Column("storagerouter_guid", sa.String(length=36), nullable=False),
        sa.Column("storagedriver_id", sa.String(length=128), nullable=False),
        sa.Column("cluster_ip", sa.String(length=64), nullable=False),
        sa.Column("storage_ip", sa.String(length=64), nullable=False),
        sa.Column("ports", sa.JSON(), nullable=False),
        sa.Column("mountpoint", sa.String(length=255), nullable=False),
        sa.Column("startup_counter", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["storagerouter_guid"], ["storagerouter.guid"], name=op.f("fk_storagedriver_storagerouter_guid")
        ),
        sa.ForeignKeyConstraint(["vpool_guid"], ["vpool.guid"], name=op.f("fk_storagedriver_vpool_guid")),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_storagedriver")),
        sa.UniqueConstraint("storagedriver_id", name=op.f("uq_storagedriver_storagedriver_id")),
        sa.UniqueConstraint(
            "vpool_guid", "storagerouter_guid", name=op.f("uq_storagedriver_vpool_guid_storagerouter_guid")
        ),
    )
    op.create_table(
        "task",
        sa.Column("guid", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=48), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("vdisk_guid", sa.String(length=36), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("username", sa.String(length=255), nullable=True),
        sa.Column("idempotency_key", sa.String(length=200), nullable=True),
        sa.Column("request_digest", sa.String(length=64), nullable=True),
        sa.Column("node_guid", sa.String(length=36), nullable=True),
        sa.Column("lease", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["node_guid"], ["storagerouter.guid"], name=op.f("fk_task_node_guid")),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_task")),
        sa.UniqueConstraint("username", "idempotency_key", name=op.f("uq_task_username_idempotency_key")),
    )
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_task_created_at"), ["created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_task_status"), ["status"], unique=False)
        batch_op.create_index(batch_op.f("ix_task_vdisk_guid"), ["vdisk_guid"], unique=False)

    op.create_table(
        "vdisk",
        sa.Column("guid", sa.String(length=36), nullable=False),
        sa.Column("vpool_guid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("devicename", sa.String(length=320), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("volume_id", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("is_vtemplate", sa.Boolean(), nullable=False),
        sa.Column("parent_vdisk_guid", sa.String(length=36), nullable=True),
        sa.Column("parent_snapshot_guid", sa.String(length=36), nullable=True),
        sa.Column("backend_ref", sa.String(length=64), nullable=True),
        sa.Column("written", sa.Boolean(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("owner_guid", sa.String(length=36), nullable=True),
        sa.Column("owner_epoch", sa.Integer(), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("qos", sa.JSON(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("pagecache_ratio", sa.Double(), nullable=False),
        sa.Column("cache_quota", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("cinder_id", sa.String(length=64), nullable=True),
        sa.Column("has_manual_dtl", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["owner_guid"], ["storagerouter.guid"], name=op.f("fk_vdisk_owner_guid")),
        sa.ForeignKeyConstraint(
            ["parent_snapshot_guid"],
            ["snapshot.guid"],
            name=op.f("fk_vdisk_parent_snapshot_guid"),
            ondelete="SET NULL",
            use_alter=True,
        ),
        sa.ForeignKeyConstraint(
            ["parent_vdisk_guid"], ["vdisk.guid"], name=op.f("fk_vdisk_parent_vdisk_guid"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["vpool_guid"], ["vpool.guid"], name=op.f("fk_vdisk_vpool_guid")),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_vdisk")),
        sa.UniqueConstraint("volume_id", name=op.f("uq_vdisk_volume_id")),
        sa.UniqueConstraint("vpool_guid", "devicename", name=op.f("uq_vdisk_vpool_guid_devicename")),
    )
    with op.batch_alter_table("vdisk", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_vdisk_backend_ref"), ["backend_ref"], unique=False)
        batch_op.create_index(batch_op.f("ix_vdisk_name"), ["name"], unique=False)
        batch_op.create_index(batch_op.f("ix_vdisk_owner_guid"), ["owner_guid"], unique=False)
        batch_op.create_index(batch_op.f("ix_vdisk_parent_snapshot_guid"), ["parent_snapshot_guid"], unique=False)
        batch_op.create_index(batch_op.f("ix_vdisk_parent_vdisk_guid"), ["parent_vdisk_guid"], unique=False)

    op.create_table(
        "access_token",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("client_guid", sa.String(length=36), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["client_guid"], ["oauth_client.guid"], name=op.f("fk_access_token_client_guid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_access_token")),
    )
    with op.batch_alter_table("access_token", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_access_token_client_guid"), ["client_guid"], unique=False)
        batch_op.create_index(batch_op.f("ix_access_token_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "operation",
        sa.Column("guid", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("vdisk_guid", sa.String(length=36), nullable=True),
        sa.Column("task_guid", sa.String(length=36), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["task_guid"], ["task.guid"], name=op.f("fk_operation_task_guid"), ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_operation")),
    )
    with op.batch_alter_table("operation", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_operation_vdisk_guid"), ["vdisk_guid"], unique=False)

    op.create_table(
        "snapshot",
        sa.Column("guid", sa.String(length=36), nullable=False),
        sa.Column("vdisk_guid", sa.String(length=36), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("timestamp", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("is_consistent", sa.Boolean(), nullable=False),
        sa.Column("is_automatic", sa.Boolean(), nullable=False),
        sa.Column("is_sticky", sa.Boolean(), nullable=False),
        sa.Column("for_clone", sa.Boolean(), nullable=False),
        sa.Column("backend_ref", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["vdisk_guid"], ["vdisk.guid"], name=op.f("fk_snapshot_vdisk_guid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_snapshot")),
        sa.UniqueConstraint("vdisk_guid", "ordinal", name=op.f("uq_snapshot_vdisk_guid_ordinal")),
    )
    with op.batch_alter_table("snapshot", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_snapshot_backend_ref"), ["backend_ref"], unique=False)

    # vdisk and snapshot refer to each other. SQLite took the reference with the table; where a table can be altered,
    # use_alter has kept it back until both are there.
    if op.get_bind().dialect.supports_alter:
        op.create_foreign_key(
            op.f("fk_vdisk_parent_snapshot_guid"),
            "vdisk",
            "snapshot",
            ["parent_snapshot_guid"],
            ["guid"],
            ondelete="SET NULL",
        )

    op.create_table(
        "grant",
        sa.Column("guid", sa.String(length=36), nullable=False),
        sa.Column("vdisk_guid", sa.String(length=36), nullable=False),
        sa.Column("snapshot_guid", sa.String(length=36), nullable=True),
        sa.Column("client", sa.String(length=255), nullable=False),
        sa.Column("certificate_name", sa.String(length=255), nullable=True),
        sa.Column("consumer", sa.String(length=255), nullable=False),
        sa.Column("mode", sa.String(length=2), nullable=False),
        sa.Column("identity", sa.String(length=64), nullable=False),
        sa.Column("export_name", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("deadline", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["snapshot_guid"], ["snapshot.guid"], name=op.f("fk_grant_snapshot_guid"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["vdisk_guid"], ["vdisk.guid"], name=op.f("fk_grant_vdisk_guid"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("guid", name=op.f("pk_grant")),
        sa.UniqueConstraint("export_name", name=op.f("uq_grant_export_name")),
        sa.UniqueConstraint("vdisk_guid", "identity", name=op.f("uq_grant_vdisk_guid_identity")),
    )
    with op.batch_alter_table("grant", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_grant_deadline"), ["deadline"], unique=False)
        batch_op.create_index(batch_op.f("ix_grant_snapshot_guid"), ["snapshot_guid"], unique=False)
