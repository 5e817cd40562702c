"""Resolving: a host without an account asks where a grant that it holds is served now.

Whoever creates a grant hands on, with it, what the holder needs for that: the addresses to ask, the CA that they are
verified by, and the grant's secret, which is good for this one question. These travel as plain *connection
properties*, the dictionary that OpenStack stores with an attachment, so they are read from it here:

====================  ===============================================================================
``grant``             guid of the grant
``secret``            its secret; never logged
``resolvers``         where the management API is, ``https://host:port`` each
``ca``                PEM text of the CA that signed their certificates; absent: the CAs that requests trusts
``name``              export name; with the next ones: where the grant was served when it was created
``hosts``, ``ports``  one host, and its port as text
``tls``               whether the client must start TLS
====================  ===============================================================================

    >>> location = resolve(properties)
    >>> properties.update(location.properties)
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from openvstorage.client.caller import Caller
from openvstorage.client.clock import Clock, SystemClock
from openvstorage.client.endpoints import Endpoints
from openvstorage.client.errors import ConfigurationError
from openvstorage.client.fields import flag, integer, mapping, text
from openvstorage.client.names import segment
from openvstorage.client.tokens import Tokens
from openvstorage.client.wire import Wire

__all__ = ["GrantLocation", "GrantReference", "resolve"]


# The service may be restarting, or starting the vDisk's storage daemon.
_PATIENCE = 30.0
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class GrantLocation:
    """Where a grant is served.

    :ivar host: address or name. :ivar port: TCP port. :ivar tls: whether the client must start TLS.
    :ivar export_name: NBD export name.
    :ivar size: bytes that the export offers.
    :ivar mode: ``rw`` or ``ro``.
    """

    host: str
    port: int
    export_name: str
    tls: bool
    size: int
    mode: str

    @property
    def properties(self) -> dict[str, Any]:
        """The connection properties that say this."""
        # Ports are text: Nova puts them into XML as they are.
        return {"name": self.export_name, "hosts": [self.host], "ports": [str(self.port)], "tls": self.tls}

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read the API's object. :raises UnexpectedAnswer: if something is missing."""
        return cls(
            host=text(data, "host"),
            port=integer(data, "port"),
            export_name=text(data, "export_name"),
            tls=flag(data, "tls"),
            size=integer(data, "size"),
            mode=text(data, "mode"),
        )


@dataclass(frozen=True, slots=True)
class GrantReference:
    """What the holder of a grant knows of it; the credentials of its one question.

    :ivar guid: the grant. :ivar secret: its secret.
    :ivar resolvers: where the management API is, ``https://host:port`` each.
    :ivar ca: PEM text, None for the CAs that requests trusts.
    """

    guid: str
    secret: str = field(repr=False)
    resolvers: tuple[str, ...]
    ca: str | None = field(default=None, repr=False)

    @classmethod
    def from_properties(cls, properties: Mapping[str, Any]) -> Self | None:
        """Read connection properties. :returns: None where they name no grant or no secret: there is nothing to ask.

        :raises ConfigurationError: if they are incomplete.
        """
        guid, secret, resolvers = (properties.get(key) for key in ("grant", "secret", "resolvers"))
        if not guid or not secret:
            return None
        if not isinstance(resolvers, list) or not all(isinstance(url, str) for url in resolvers):
            raise ConfigurationError(reason="the connection properties do not say whom to ask for the grant")
        ca = properties.get("ca")
        return cls(str(guid), str(secret), tuple(resolvers), str(ca) if ca else None)

    @property
    def who(self) -> str:
        """Who asks, for messages."""
        return f"the holder of grant {self.guid}"

    def form(self) -> dict[str, str]:
        """Give nothing: there is no token for a grant."""
        return {}

    def headers(self) -> dict[str, str]:
        """Give nothing either."""
        return {}

    def fingerprint(self) -> str:
        """Give the grant's guid."""
        return self.guid


def resolve(
    properties: Mapping[str, Any], *, patience: float = _PATIENCE, clock: Clock | None = None
) -> GrantLocation | None:
    """Ask where a grant is served. Blocks until it is, and the export is up.

    :param properties: see above.
    :param patience: seconds over which the question is repeated when no address answers, e.g. during a restart.
    :returns: the location, or None where the properties carry no grant to ask for.
    :raises NotFound: the grant was revoked. :raises AuthenticationError: the secret is not the grant's.
    :raises TransportError: nobody answered, or the vDisk cannot be served now.
    :raises ConfigurationError: the properties are incomplete, or their CA is no certificate.
    """
    reference = GrantReference.from_properties(properties)
    if reference is None:
        return None
    clock = clock or SystemClock()
    with _ca_file(reference.ca) as verify:
        wire = Wire(verify, _TIMEOUT)
        try:
            tokens = Tokens(wire, reference, clock)
            caller = Caller(Endpoints.from_urls(reference.resolvers), wire, tokens, clock, patience)
            path = f"grants/{segment(reference.guid)}/resolve/"
            return GrantLocation.from_api(mapping(caller.ask(path, f"Grant {reference.secret}"), path))
        finally:
            wire.close()


@contextmanager
def _ca_file(ca: str | None) -> Iterator[str | bool]:
    """Give what requests verifies by; it takes certificates from files only."""
    if ca is None:
        yield True
        return
    with tempfile.NamedTemporaryFile("w", prefix="openvstorage-ca-", suffix=".pem") as file:
        file.write(ca)
        file.flush()
        yield file.name
