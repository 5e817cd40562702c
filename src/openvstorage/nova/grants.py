"""What Nova keeps of the grants of an instance's volumes, and where the vPool serves them now."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from nova import context as nova_context
from nova import exception, objects
from oslo_log import log as logging
from oslo_messaging import MessagingException

from openvstorage.client import OpenvStorageError
from openvstorage.client.resolve import resolve

__all__ = ["LostExports", "Opened", "current_export", "properties_of"]

LOG = logging.getLogger(__name__)

# One that could be answered is asked again after this time: the storage process may have died meanwhile.
_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Opened:
    """An export that a guest has opened.

    :ivar instance: uuid of the guest. :ivar volume: id of the volume. :ivar export: name of the export.
    """

    instance: str
    volume: str
    export: str


class LostExports:
    """Which exports that guests have opened have other names by now: acknowledged writes may be lost there.

    Asked in threads of its own: that a conductor or a vPool is away may be known only after a minute. One owner's.
    """

    def __init__(self) -> None:
        self._asking: set[Opened] = set()
        self._answers: dict[Opened, tuple[bool, float]] = {}

    def keep(self, opened: Collection[Opened]) -> None:
        """Forget what is known of all others."""
        self._answers = {one: answer for one, answer in self._answers.items() if one in opened}

    def is_lost(self, one: Opened) -> bool | None:
        """Tell what is known, and have it asked if it is not or was long ago. Does not block.

        :returns: None while it is asked for the first time; False also where nobody could say.
        """
        lost, when = self._answers.get(one, (None, 0.0))
        if not lost and one not in self._asking and (lost is None or time.monotonic() > when + _AGAIN_SECONDS):
            self._asking.add(one)
            threading.Thread(target=self._ask, args=(one,), name="openvstorage-export", daemon=True).start()
        return lost

    def _ask(self, one: Opened) -> None:
        lost = False
        try:
            lost = current_export(properties_of(one.instance).get(one.volume, {})) not in (None, one.export)
        finally:
            self._answers[one] = lost, time.monotonic()
            self._asking.discard(one)


def properties_of(instance_uuid: str) -> dict[str, dict[str, Any]]:
    """Ask Nova's conductor for the connection properties of an instance's volumes, by volume id. Blocks.

    They hold secrets: log none of them. Gives none where the conductor does not answer.
    """
    known: dict[str, dict[str, Any]] = {}
    try:
        devices = objects.BlockDeviceMappingList.get_by_instance_uuid(nova_context.get_admin_context(), instance_uuid)
    except (exception.NovaException, MessagingException) as error:
        LOG.debug("The volumes of instance %s are not known: %s", instance_uuid, error)
        return known
    for device in devices:
        if device.is_volume and device.connection_info:
            known[str(device.volume_id)] = json.loads(device.connection_info).get("data") or {}
    return known


def current_export(properties: dict[str, Any]) -> str | None:
    """Ask the vPool under which name a volume is served to this host now; each address once. Blocks.

    :param properties: as ``properties_of`` gives them.
    :returns: None where nobody can say, for example in an outage, or because the grant was revoked.
    """
    try:
        location = resolve(properties, patience=0)
    except OpenvStorageError as error:
        LOG.debug("Where a volume is served is not known: %s", error)
        return None
    return location.export_name if location is not None else None
