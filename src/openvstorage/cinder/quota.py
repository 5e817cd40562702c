"""Quota: what a volume has grown by is counted, where Cinder's own count died with the process that grew it."""

from __future__ import annotations

from typing import Any

from cinder import context as cinder_context
from cinder import exception, quota
from oslo_log import log as logging

__all__ = ["count_growth"]

LOG = logging.getLogger(__name__)


def count_growth(volume: Any, gib: int) -> None:
    """Add to what the volume's project uses. What the API had set aside for it lapses by itself.

    A project without room for it is logged and not counted: the bytes are there.
    """
    context = cinder_context.get_admin_context()
    options = {"gigabytes": gib}
    quota.QUOTAS.add_volume_type_opts(context, options, volume.volume_type_id)
    try:
        reservations = quota.QUOTAS.reserve(context, project_id=volume.project_id, **options)
    except exception.OverQuota:
        LOG.warning("Volume %s grew by %d GiB, which the quota of its project does not count.", volume.name, gib)
        return
    quota.QUOTAS.commit(context, reservations, project_id=volume.project_id)
