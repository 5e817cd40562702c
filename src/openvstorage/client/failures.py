"""Failures: from the words and codes of a cluster to the classes of :mod:`openvstorage.client.errors`.

A task that failed says why in one sentence and nothing else, so the sentence is what can be recognised. The
fragments are those of Open vStorage 2.7 to 2.11 and of our own service; they are matched case-sensitively.
"""

from typing import Any

from openvstorage.client.errors import (
    AccessDenied,
    AlreadyExists,
    HasClones,
    IdempotencyConflict,
    InUse,
    InvalidRequest,
    NotFound,
    NotYet,
    Refused,
    TaskFailed,
    Unavailable,
    VersionNotSupported,
)

__all__ = ["from_answer", "from_task"]

# Order matters only where one sentence could hold two fragments: the more particular one stands first.
_FRAGMENTS: tuple[tuple[str, type[Refused]], ...] = (
    ("already exists on vPool", AlreadyExists),
    ("did not make it to the backend yet", NotYet),
    ("still not synced to backend", NotYet),
    ("Could not find created snapshot in time", NotYet),
    ("is being scrubbed", NotYet),
    ("cloned from it, cannot remove", HasClones),
    ("has clones", HasClones),
    ("Snapshot in use", InUse),
    ("is in use by", InUse),
    ("does not belong to vDisk", NotFound),
    ("Snapshot not found", NotFound),
    ("No snapshot found for timestamp", NotFound),
    ("Maximum volume size", InvalidRequest),
    ("Shrinking is not possible", InvalidRequest),
    ("is not a vTemplate", InvalidRequest),
    ("Could not use the given StorageRouter", Unavailable),
    ("Could not find a MDS service", Unavailable),
    ("is not running, cannot extend", Unavailable),
)

_CODES: dict[str, type[Refused]] = {
    "object_not_found": NotFound,
    "duplicate": AlreadyExists,
    "in_use": InUse,
    "invalid_version": VersionNotSupported,
    "missing_header": VersionNotSupported,
    "invalid_data": InvalidRequest,
    "impossible_request": InvalidRequest,
    "idempotency_conflict": IdempotencyConflict,
    "invalid_roles": AccessDenied,
    "no_ownership": AccessDenied,
}


def from_task(task_id: str, result: Any) -> Refused:
    """Give the error for a task in state FAILURE.

    :param task_id: the task.
    :param result: its result: the text of the server's exception.
    :returns: the error to raise; :class:`TaskFailed` when the words are not known.
    """
    text = str(result)
    return (_by_words(text) or TaskFailed)(description=text, task_id=task_id)


def from_answer(status: int, body: Any) -> Refused:
    """Give the error for an answer with a status from 400 to 499.

    :param status: the HTTP status.
    :param body: the decoded body: the cluster's ``error``/``error_description``, its framework's ``detail``, or
        anything else.
    :returns: the error to raise.
    """
    code, text = words(body)
    if status == 426:
        kind: type[Refused] | None = VersionNotSupported
    elif code == "impossible_request":
        # One code for many reasons: the words know better ("has clones").
        kind = _by_words(text) or InvalidRequest
    else:
        kind = _CODES.get(code)
    if kind is None:
        kind = AccessDenied if status == 403 else InvalidRequest
    return kind(description=text or f"status {status}", code=code, status=status)


def words(body: Any) -> tuple[str, str]:
    """Give the code and the text of an error body; both empty when it holds none."""
    if not isinstance(body, dict):
        return "", ""
    return str(body.get("error") or ""), str(body.get("error_description") or body.get("detail") or "")


def _by_words(text: str) -> type[Refused] | None:
    return next((kind for fragment, kind in _FRAGMENTS if fragment in text), None)
