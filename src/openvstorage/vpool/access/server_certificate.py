"""The server's certificate in use, and its renewal while the service runs."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from openvstorage.vpool.access import authority
from openvstorage.vpool.access.authority import TlsFiles

__all__ = ["ServerCertificate"]

_AT_MOST_ONCE_IN = datetime.timedelta(days=1)


class ServerCertificate:
    """The certificate in a directory. Made by :meth:`open`.

    :ivar files: where it is.
    :ivar fingerprint: a short name of it.
    :ivar on_renewal: called in the event loop after another certificate was issued.
    """

    def __init__(self, files: TlsFiles, hosts: Sequence[str], now: datetime.datetime) -> None:
        self.files = files
        self.on_renewal: list[Callable[[], None]] = []
        self._hosts = list(hosts)
        self._look(now)

    @classmethod
    def open(cls, directory: Path, hosts: Sequence[str], *, now: datetime.datetime | None = None) -> Self:
        """Find the certificate, or issue one: see :func:`authority.ensure`, which says what is raised too. Blocking."""
        now = now or datetime.datetime.now(datetime.UTC)
        return cls(authority.ensure(directory, hosts, now=now), hosts, now)

    async def renew_if_due(self) -> bool:
        """Issue it again when it nears its end, at once if the files are not those that were here before.

        :returns: whether there is another one now.
        :raises AuthorityError: the authority's files are not what they were. :raises OSError: nothing can be written.
        """
        now = datetime.datetime.now(datetime.UTC)
        if now < self._next_look and self._stamp() == self._seen:
            return False
        before = self.fingerprint
        await asyncio.to_thread(authority.ensure, self.files.certificate.parent, self._hosts, now=now)
        self._look(now)
        if self.fingerprint == before:
            return False
        for hook in self.on_renewal:
            hook()
        return True

    def _stamp(self) -> list[tuple[int, int] | None]:
        """What tells whether somebody has replaced or removed a file, without reading it."""
        files = (self.files.certificate, self.files.key)
        found = [path.stat() if path.exists() else None for path in files]
        return [(each.st_ino, each.st_mtime_ns) if each is not None else None for each in found]

    def _look(self, now: datetime.datetime) -> None:
        self._seen = self._stamp()
        self.fingerprint = authority.fingerprint(self.files.certificate)
        due = authority.valid_until(self.files.certificate) - datetime.timedelta(days=authority.RENEW_DAYS)
        # An authority that itself nears its end gives no certificate that is not due again.
        self._next_look = max(due, now + _AT_MOST_ONCE_IN)
