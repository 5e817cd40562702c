"""The client: one object through which everything else is reached."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from openvstorage.client.caller import Caller
from openvstorage.client.clock import Clock, SystemClock
from openvstorage.client.credentials import Credentials, PasswordCredentials
from openvstorage.client.endpoints import Endpoints
from openvstorage.client.errors import ConfigurationError
from openvstorage.client.grant import Grants
from openvstorage.client.snapshot import Snapshots
from openvstorage.client.task import Tasks
from openvstorage.client.tokens import Tokens
from openvstorage.client.vdisk import VDisks
from openvstorage.client.vpool import VPools
from openvstorage.client.wire import Wire

__all__ = ["Client"]


class Client:
    """A client of one cluster. The constructor does no I/O; all methods may be called from many threads.

    >>> with Client(["10.0.0.1", "10.0.0.2"], username="admin", password=secret, ca_file="/etc/ovs/ca.pem") as client:
    ...     vpool = client.vpools.find("myvpool01")
    ...     guid = client.vdisks.create("disk1", 10 * 1024**3, vpool.guid)

    :param management_ips: addresses of the nodes that run the API. They are asked in turn until one answers.
    :param port: TCP port of the API on each of them.
    :param username: user for the password grant, with ``password``.
    :param credentials: instead of them, e.g. :class:`openvstorage.client.ClientCredentials`.
    :param ca_file: PEM file with the CA of the API's certificate; None means the CAs that requests trusts.
    :param verify: False accepts any certificate, and so any machine in between. Never a default.
    :param timeout: seconds without an answer after which an address counts as failed.
    :param patience: seconds over which a call is repeated when no address can be reached, e.g. during a restart.
    :param lost_after: seconds after which a task that stays PENDING counts as lost.
    :param clock: another clock; for tests.
    :raises ConfigurationError: if these cannot work together.
    """

    def __init__(
        self,
        management_ips: Sequence[str],
        port: int = 443,
        username: str | None = None,
        password: str | None = None,
        *,
        credentials: Credentials | None = None,
        ca_file: str | Path | None = None,
        verify: bool = True,
        timeout: float = 30.0,
        patience: float = 10.0,
        lost_after: float = 180.0,
        clock: Clock | None = None,
    ) -> None:
        if credentials is None:
            if not username or not password:
                raise ConfigurationError(reason="a user name and a password, or other credentials, are needed")
            credentials = PasswordCredentials(username, password)
        elif username or password:
            raise ConfigurationError(reason="a user name and other credentials were given; only one can be used")
        clock = clock or SystemClock()
        self._endpoints = Endpoints(management_ips, port)
        self._wire = Wire(str(ca_file) if verify and ca_file else verify, timeout)
        self._caller = Caller(self._endpoints, self._wire, Tokens(self._wire, credentials, clock), clock, patience)
        self.tasks = Tasks(self._caller, lost_after)
        self.vpools = VPools(self._caller)
        self.snapshots = Snapshots(self._caller, self.tasks)
        self.vdisks = VDisks(self._caller, self.tasks, self.snapshots)
        self.grants = Grants(self._caller, self.tasks)

    @classmethod
    def from_status(cls, status: Mapping[str, Any], **options: Any) -> Self:
        """Make a client of the service that ``openvstorage status --json`` describes. Reads its password file.

        :param status: the decoded output of that command.
        :param options: as for the constructor, e.g. ``timeout``.
        :raises ConfigurationError: if something is missing, or the password file cannot be read.
        """
        try:
            password = Path(status["password_file"]).read_text(encoding="utf-8").strip()
            return cls(
                management_ips=status["management_ips"],
                port=int(status["port"]),
                username=status["username"],
                password=password,
                ca_file=status["ca_file"],
                **options,
            )
        except KeyError as error:
            raise ConfigurationError(reason=f"the status lacks {error}") from error
        except OSError as error:
            raise ConfigurationError(reason=f"password file: {error}") from error

    def features(self) -> frozenset[str]:
        """Give the extensions of the cluster beside Open vStorage's own API; empty for Open vStorage itself.

        Asked for at the first call and then every five minutes; may block.

        :raises TransportError: if no address answers. :raises UnexpectedAnswer: if it is no Open vStorage API.
        """
        return self._caller.features()

    def close(self) -> None:
        """Close the connections. Calls after it raise ConfigurationError; may be called again."""
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._endpoints})"
