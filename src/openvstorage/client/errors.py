"""Errors: what can go wrong with a call to a cluster, and whether asking again helps.

Callers branch on the class; the branch says what is known about the request::

    OpenvStorageError
    ├── ConfigurationError      the client was given something that cannot work
    ├── TransportError          no usable answer from any management address (``maybe_sent``)
    │   ├── Unreachable         the request was never sent
    │   │   └── CertificateError    never sent: the server's certificate did not verify
    │   ├── AnswerLost          sent, but the answer never came: it may have been done
    │   └── ServerError         a node answered 5xx: it may have been done
    ├── AuthenticationError     the credentials are wrong
    ├── RateLimited             the cluster kept answering 429
    ├── UnexpectedAnswer        whoever answered does not speak this API
    ├── NotSupported            the cluster lacks a feature that the call needs
    ├── Refused                 the cluster said no, at once or at the end of a task; a service of ours says it by
    │   │                       code, and then the class is one of openvstorage.client.refusals below these
    │   ├── AccessDenied, NotFound, AlreadyExists, InvalidRequest, VersionNotSupported, IdempotencyConflict
    │   ├── InUse               somebody uses it
    │   │   └── HasClones       something was cloned from it
    │   ├── NotYet              data has still to reach the backend, or other work has to end
    │   ├── Unavailable         no node can do it now
    │   ├── NotFenced           an old client may still be writing
    │   └── TaskFailed          any other text
    └── TaskError               the outcome of a task is not known
        └── TaskTimeout, TaskLost, TaskRevoked

Every class says by ``retry_helps`` whether the same call may succeed later without anybody changing anything.
No message, ``repr`` or attribute of these classes holds a password or a token.
"""

from typing import Any, ClassVar, Self

__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "AnswerLost",
    "AuthenticationError",
    "CertificateError",
    "ConfigurationError",
    "HasClones",
    "IdempotencyConflict",
    "InUse",
    "InvalidRequest",
    "NotFound",
    "NotSupported",
    "NotYet",
    "OpenvStorageError",
    "RateLimited",
    "Refused",
    "ServerError",
    "TaskError",
    "TaskFailed",
    "TaskLost",
    "TaskRevoked",
    "TaskTimeout",
    "TransportError",
    "Unavailable",
    "UnexpectedAnswer",
    "Unreachable",
    "VersionNotSupported",
]


class OpenvStorageError(Exception):
    """Anything that this library raises on purpose.

    :cvar template: the message, a format string over the attributes of the instance.
    :cvar retry_helps: whether the same call may succeed later although nobody changed anything.
    """

    template: ClassVar[str] = "Open vStorage: {reason}"
    retry_helps: ClassVar[bool] = False

    def __str__(self) -> str:
        return self.template.format(**vars(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Attributes are given by keyword, so the default (class plus positional args) could not rebuild them.
        return _rebuild, (type(self), vars(self))

    @classmethod
    def _from_attributes(cls, attributes: dict[str, Any]) -> Self:
        error = cls.__new__(cls)
        vars(error).update(attributes)
        return error


def _rebuild(cls: type[OpenvStorageError], attributes: dict[str, Any]) -> OpenvStorageError:
    return cls._from_attributes(attributes)


class ConfigurationError(OpenvStorageError):
    """The client was given something that cannot work: no address, an unreadable CA file, an incomplete status."""

    template = "The client is configured wrongly: {reason}"

    def __init__(self, *, reason: str) -> None:
        super().__init__()
        self.reason = reason


class TransportError(OpenvStorageError):
    """No usable answer came from any of the management addresses.

    :ivar endpoint: base URL(s) that were tried.
    :ivar reason: what happened, in words.
    :cvar maybe_sent: whether the cluster may have received the request, and so may have acted on it.
    """

    template = "No answer from {endpoint}: {reason}"
    retry_helps = True
    maybe_sent: ClassVar[bool] = True

    def __init__(self, *, endpoint: str, reason: str) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.reason = reason


class Unreachable(TransportError):
    """The request was never sent: nobody listens, the address does not answer, or no token could be had there."""

    template = "Cannot reach {endpoint}: {reason}"
    maybe_sent = False


class CertificateError(Unreachable):
    """The server's certificate did not verify against the CA file or the address. Retrying does not help."""

    template = "The TLS certificate of {endpoint} does not verify: {reason}"
    retry_helps = False


class AnswerLost(TransportError):
    """The request went out and no answer came. It may have been done: look before you ask again."""

    template = "No answer from {endpoint}, which may have done the request: {reason}"


class ServerError(TransportError):
    """A node answered 5xx. It may have done the request.

    :ivar status: the HTTP status.
    """

    template = "{endpoint} failed with status {status}: {reason}"

    def __init__(self, *, endpoint: str, reason: str, status: int) -> None:
        super().__init__(endpoint=endpoint, reason=reason)
        self.status = status


class AuthenticationError(OpenvStorageError):
    """The cluster refused the credentials, or the token that it had just issued.

    :ivar code: the cluster's error code, e.g. ``invalid_client``.
    """

    template = "{endpoint} refused the credentials of {who} ({code}): {description}"

    def __init__(self, *, endpoint: str, who: str, code: str, description: str) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.who = who
        self.code = code
        self.description = description


class RateLimited(OpenvStorageError):
    """The cluster kept answering 429 for longer than the client is willing to wait.

    :ivar seconds: how long the client waited before it gave up.
    """

    template = "{endpoint} limits the rate of calls; gave up after waiting {seconds:.0f} s"
    retry_helps = True

    def __init__(self, *, endpoint: str, seconds: float) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.seconds = seconds


class UnexpectedAnswer(OpenvStorageError):
    """Whoever answered does not speak this API: not JSON, a redirect, a missing field. Often a wrong port."""

    template = "{where} did not answer as the Open vStorage API does: {reason}"

    def __init__(self, *, where: str, reason: str) -> None:
        super().__init__()
        self.where = where
        self.reason = reason


class NotSupported(OpenvStorageError):
    """The call needs a feature that this cluster does not announce.

    :ivar feature: its name, as in :meth:`openvstorage.client.Client.features`.
    """

    template = "The cluster cannot do this: it lacks {feature} ({reason})"

    def __init__(self, *, feature: str, reason: str) -> None:
        super().__init__()
        self.feature = feature
        self.reason = reason


class Refused(OpenvStorageError):
    """The cluster understood the request and said no: at once, or as the result of the task.

    :ivar description: the cluster's own words.
    :ivar code: the error code of a service of ours (:class:`openvstorage.contract.codes.ErrorCode`), else the cluster's
        word for a refused request, empty for its failed task: that has only a sentence.
    :ivar status: the HTTP status, or None when a task failed.
    :ivar task_id: the task that failed, or None when the request was refused at once.
    """

    template = "Refused by the cluster: {description}"

    def __init__(
        self, *, description: str, code: str = "", status: int | None = None, task_id: str | None = None
    ) -> None:
        super().__init__()
        self.description = description
        self.code = code
        self.status = status
        self.task_id = task_id


class AccessDenied(Refused):
    """The user lacks a role or does not own the object."""

    template = "Access denied ({code}): {description}"


class NotFound(Refused):
    """The vDisk, snapshot, grant or vPool does not exist."""

    template = "Not found: {description}"


class AlreadyExists(Refused):
    """Something has that name already. For vDisks the name is compared after cleaning, within one vPool."""

    template = "Already exists: {description}"


class InUse(Refused):
    """Somebody uses the object: a grant is live, or another consumer holds the vDisk."""

    template = "In use: {description}"


class HasClones(InUse):
    """A vDisk or snapshot cannot go because something was cloned from it."""

    template = "Has clones: {description}"


class InvalidRequest(Refused):
    """A parameter is missing, malformed or impossible: a bad name, a size that would shrink or is too large."""

    template = "Invalid request: {description}"


class VersionNotSupported(Refused):
    """The cluster does not speak the API version asked for (406 up to 2.9, 426 later)."""

    template = "API version not supported by the cluster: {description}"


class IdempotencyConflict(Refused):
    """An idempotency key came back with another request. A key is used for one logical call only."""

    template = "Idempotency key used for another request: {description}"


class NotYet(Refused):
    """Data has still to reach the backend, or other work on the object has to end first."""

    template = "Not yet possible: {description}"
    retry_helps = True


class Unavailable(Refused):
    """No node of the cluster can do it now."""

    template = "Not available: {description}"
    retry_helps = True


class TaskFailed(Refused):
    """A task failed with words that this library does not know."""

    template = "Task {task_id} failed: {description}"


class TaskError(OpenvStorageError):
    """The outcome of a task is not known. The task may still run, and its effect may still come.

    :ivar task_id: the task; :meth:`openvstorage.client.Tasks.wait` may be called with it again.
    :ivar seconds: how long the client waited for it.
    """

    template = "The outcome of task {task_id} is not known after {seconds:.1f} s"

    def __init__(self, *, task_id: str, seconds: float) -> None:
        super().__init__()
        self.task_id = task_id
        self.seconds = seconds


class TaskTimeout(TaskError):
    """The task was not ready at the deadline. It goes on."""

    template = "Task {task_id} was not ready after {seconds:.1f} s; it goes on"


class TaskLost(TaskError):
    """The task stayed PENDING so long that the cluster has most likely forgotten it."""

    template = "Task {task_id} is still pending after {seconds:.1f} s: the cluster has lost it or does nothing"


class TaskRevoked(TaskError):
    """An administrator revoked the task. What it had done until then stays."""

    template = "Task {task_id} was revoked"
