"""Endpoints: the management addresses of one cluster, and which of them to ask first."""

import threading
from collections.abc import Sequence
from typing import Self

from openvstorage.client.errors import ConfigurationError

__all__ = ["Endpoints", "management_urls"]


def management_urls(management_ips: Sequence[str], port: int) -> list[str]:
    """Give ``https://host:port`` for each management address, as :meth:`Endpoints.from_urls` takes them. No I/O.

    Whoever writes the addresses down for others makes them here, so that everybody asks the same ones.

    :param management_ips: addresses or host names, IPv6 ones with brackets or without; blanks around them, empty
        entries and repetitions are ignored. One that cannot be an address is found out when it is asked.
    :param port: TCP port, 1 to 65535.
    :raises ConfigurationError: if no address is left, or the port is none.
    """
    if isinstance(management_ips, str):
        raise ConfigurationError(reason="management_ips must be a list of addresses, not one text")
    if not 1 <= port <= 65535:
        raise ConfigurationError(reason=f"port {port} is not between 1 and 65535")
    hosts = dict.fromkeys(_bracketed(entry.strip()) for entry in management_ips if entry.strip())
    if not hosts:
        raise ConfigurationError(reason="no management address was given")
    return [f"https://{host}:{port}" for host in hosts]


class Endpoints:
    """The base URLs of a cluster. The one that answered last is asked first; thread-safe.

    Takes and raises what :func:`management_urls` does.
    """

    def __init__(self, management_ips: Sequence[str], port: int) -> None:
        self._set([f"{url}/api" for url in management_urls(management_ips, port)])

    @classmethod
    def from_urls(cls, urls: Sequence[str]) -> Self:
        """Make them of ``https://host:port``, as another process wrote them down. Repetitions are ignored.

        :raises ConfigurationError: if there is none, or one is no HTTPS URL.
        """
        endpoints = cls.__new__(cls)
        endpoints._set([f"{url.rstrip('/')}/api" for url in dict.fromkeys(urls)])
        return endpoints

    def _set(self, urls: list[str]) -> None:
        if not urls:
            raise ConfigurationError(reason="no management address was given")
        for url in urls:
            if not url.startswith("https://"):
                raise ConfigurationError(reason=f"{url} is no HTTPS URL")
        self._urls = urls
        self._lock = threading.Lock()

    def in_order(self) -> list[str]:
        """Give all base URLs, the most promising first."""
        with self._lock:
            return list(self._urls)

    def failed(self, url: str) -> None:
        """Note that ``url`` failed: the others are asked before it."""
        with self._lock:
            self._urls.remove(url)
            self._urls.append(url)

    def __str__(self) -> str:
        return ", ".join(self.in_order())


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
