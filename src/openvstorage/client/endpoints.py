"""Endpoints: the management addresses of one cluster, and which of them to ask first."""

import threading
from collections.abc import Sequence
from typing import Self

from openvstorage.client.errors import ConfigurationError

__all__ = ["Endpoints"]


class Endpoints:
    """The base URLs of a cluster. The one that answered last is asked first; thread-safe.

    :param management_ips: addresses or host names; blanks around them and empty entries are ignored.
    :param port: TCP port, 1 to 65535.
    :raises ConfigurationError: if no address is left, or the port is none.
    """

    def __init__(self, management_ips: Sequence[str], port: int) -> None:
        if isinstance(management_ips, str):
            raise ConfigurationError(reason="management_ips must be a list of addresses, not one text")
        if not 1 <= port <= 65535:
            raise ConfigurationError(reason=f"port {port} is not between 1 and 65535")
        hosts = dict.fromkeys(entry.strip() for entry in management_ips if entry.strip())
        self._set([f"https://{_bracketed(host)}:{port}/api" for host in hosts])

    @classmethod
    def from_urls(cls, urls: Sequence[str]) -> Self:
        """Make them of ``https://host:port``, as another process wrote them down.

        :raises ConfigurationError: if there is none, or one is no HTTPS URL.
        """
        endpoints = cls.__new__(cls)
        endpoints._set([f"{url.rstrip('/')}/api" for url in urls])
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
