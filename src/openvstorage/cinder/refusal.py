"""Volume types that ask for what this backend cannot give: refused once, and its user is told why in one sentence.

Cinder's scheduler takes a failed creation to the next backend, three times in all, and then says that there is none.
It does not do so for the errors on a list of its own, so ours is one of them. Cinder's user messages have a fixed
vocabulary; the message names the volume, and the sentence is in the metadata of the volume, where its user reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cinder import context as cinder_context
from cinder import exception, objects
from cinder.message import api as message_api
from cinder.message import message_field
from oslo_log import log as logging

__all__ = ["REASON", "TypeRefused", "forget", "told"]

LOG = logging.getLogger(__name__)

REASON = "openvstorage_refused"
"""The key of the volume's metadata that holds the sentence."""

_LONGEST = 255
_TARGET = "target:"


class TypeRefused(exception.VolumeTypeNotFound):  # type: ignore[misc]
    """The volume type asks for what no backend like this one can give; only an administrator's change helps.

    Cinder knows it as an error after which it tries no other backend. Made with ``reason``, as Cinder's own are.
    """

    message = "The volume type cannot be used: %(reason)s"

    @property
    def reason(self) -> str:
        """One sentence that says what is wrong with the type, and what may stand there."""
        return str(self.kwargs["reason"])


@contextmanager
def told(volume: Any) -> Iterator[None]:
    """Tell the volume's user about a ``TypeRefused``, which goes on.

    :param volume: that is made or changed. Of the copy that a retype makes, the user is told at the original.
    """
    try:
        yield
    except TypeRefused as error:
        try:
            _tell(_seen_by_user(volume), error)
        except exception.CinderException as trouble:
            # Why it was refused is what matters, and is logged by Cinder.
            LOG.warning("The user of volume %s could not be told: %s", volume.name, trouble)
        raise


def forget(volume: Any) -> None:
    """Take the sentence of an earlier refusal off a volume, now that its type could be had."""
    if REASON in volume.metadata:
        volume.metadata = {key: value for key, value in volume.metadata.items() if key != REASON}
        volume.save()


def _tell(volume: Any, error: TypeRefused) -> None:
    volume.metadata = {**volume.metadata, REASON: error.reason[:_LONGEST]}
    volume.save()
    context = cinder_context.get_admin_context()
    context.project_id = volume.project_id  # whose users may read the message
    message_api.API().create(
        context,
        message_field.Action.CREATE_VOLUME_FROM_BACKEND,
        resource_uuid=volume.id,
        detail=message_field.Detail.DRIVER_FAILED_CREATE,
    )


def _seen_by_user(volume: Any) -> Any:
    status = volume.migration_status or ""
    if not status.startswith(_TARGET):
        return volume
    return objects.Volume.get_by_id(cinder_context.get_admin_context(), status.removeprefix(_TARGET))
