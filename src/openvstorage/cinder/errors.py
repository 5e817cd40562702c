"""From the library's errors to Cinder's: every call to the cluster runs within ``translated``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cinder import exception

from openvstorage.client import (
    AuthenticationError,
    CertificateError,
    ConfigurationError,
    OpenvStorageError,
    TransportError,
    UnexpectedAnswer,
)
from openvstorage.edge.errors import EdgeError

__all__ = ["SetupError", "setup_fault", "translated"]


class SetupError(exception.VolumeDriverException):  # type: ignore[misc]
    """The backend cannot work as it is configured; the message says what to change."""


@contextmanager
def translated(action: str) -> Iterator[None]:
    """Turn errors of the cluster or the edge into ``VolumeBackendAPIException``; Cinder's own pass.

    :param action: what is done, as it continues "Could not", for example ``create volume x``.
    :raises VolumeBackendAPIException: with the cluster's own words in it.
    """
    try:
        yield
    except (OpenvStorageError, EdgeError) as error:
        raise exception.VolumeBackendAPIException(data=f"could not {action}: {error}") from error


def setup_fault(error: OpenvStorageError) -> str:
    """Say what is wrong with a backend's configuration when its first call to the cluster ends in ``error``."""
    if isinstance(error, ConfigurationError):
        return f"{error}"
    if isinstance(error, CertificateError):
        return f"{error}. Set openvstorage_ca_file to the CA that signed it, and use addresses that it names"
    if isinstance(error, AuthenticationError):
        return f"{error}. Check openvstorage_username and openvstorage_password, in which a $ is written $$"
    if isinstance(error, UnexpectedAnswer):
        return f"{error}. Check openvstorage_management_ips and openvstorage_port: something else listens there"
    if isinstance(error, TransportError):
        return f"{error}. Check openvstorage_management_ips and openvstorage_port, and that the service runs"
    return str(error)
