"""User: what somebody at the ``openstack`` client does, command after command, waiting for what takes a while."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from openvstorage.aio.errors import EvidenceMismatch
from openvstorage.aio.shell import OpenStackShell

__all__ = ["User"]

_SECONDS = 180.0
_POLL_SECONDS = 0.2


class User:
    """Types commands and remembers what was typed and what came of it. For one thread.

    :param shell: the client.
    :param prefix: of the names of everything made here, by which a later tour finds it.
    :param logs: named where Cinder or Glance gives up.
    :ivar typed: the commands so far, as typed; a caller clears it when it likes.
    :ivar ids: of what was made, by the name it was given without the prefix.

    Methods block until the cloud has done what was asked, and raise ShellError when the client refuses, and
    EvidenceMismatch when the cloud gives up or takes more than three minutes.
    """

    def __init__(self, shell: OpenStackShell, prefix: str, logs: Path) -> None:
        self._shell = shell
        self._prefix = prefix
        self._logs = logs
        self.typed: list[str] = []
        self.ids: dict[str, str] = {}

    def ask(self, *words: str) -> Any:
        """Type a command and return its answer, parsed."""
        self.typed.append(shlex.join(words))
        return self._shell.ask(*words)

    def run(self, *words: str) -> str:
        """Type a command and return what it printed."""
        self.typed.append(shlex.join(words))
        return self._shell.run(*words)

    def show(self, kind: str, name: str) -> dict[str, Any]:
        """Return what the cloud knows of something that was made here; not counted as typed."""
        found: dict[str, Any] = self._shell.ask(*kind.split(), "show", self.ids[name])
        return found

    def begin(self, kind: str, name: str, *words: str) -> None:
        """Ask for a volume, snapshot or image and do not wait for it."""
        self.ids[name] = self.ask(*kind.split(), "create", *words, self._prefix + name)["id"]

    def make(self, kind: str, name: str, *words: str) -> str:
        """Ask for a volume or snapshot, wait until it can be used, and return its id."""
        self.begin(kind, name, *words)
        self.wait(kind, name, "available")
        return self.ids[name]

    def wait(self, kind: str, name: str, wanted: str) -> None:
        """Wait until something has that status."""
        deadline = time.monotonic() + _SECONDS
        while (status := self.show(kind, name)["status"]) != wanted:
            # Nova shouts.
            if "error" in status.lower() or time.monotonic() > deadline:
                raise EvidenceMismatch(what=f"{kind} {name} (see {self._logs})", expected=wanted, found=status)
            time.sleep(_POLL_SECONDS)

    def wait_all(self, names: Iterable[str]) -> None:
        """Wait until all of these volumes are available, asking for all at once."""
        waiting = {self.ids[name] for name in names}
        deadline = time.monotonic() + _SECONDS
        while True:
            status = {row["ID"]: row["Status"] for row in self._shell.ask("volume", "list")}
            found = {volume: status.get(volume, "gone") for volume in waiting if status.get(volume) != "available"}
            if not found:
                return
            failed = any("error" in each or each == "gone" for each in found.values())
            if failed or time.monotonic() > deadline:
                raise EvidenceMismatch(what=f"volumes (see {self._logs})", expected="available", found=found)
            time.sleep(_POLL_SECONDS)

    def delete(self, kind: str, *names: str, options: tuple[str, ...] = ()) -> None:
        """Delete things of one kind with one command, and wait until all are gone."""
        identifiers = [self.ids.pop(name) for name in names]
        self.run(*kind.split(), "delete", *options, *identifiers)
        self.wait_gone(kind, identifiers)

    def begin_delete(self, kind: str, *names: str, options: tuple[str, ...] = ()) -> list[str]:
        """Ask for the deletion of things of one kind and return their ids, without waiting."""
        identifiers = [self.ids.pop(name) for name in names]
        self.run(*kind.split(), "delete", *options, *identifiers)
        return identifiers

    def wait_gone(self, kind: str, identifiers: Iterable[str]) -> None:
        """Wait until the cloud knows none of these ids any more."""
        wanted = set(identifiers)
        deadline = time.monotonic() + _SECONDS
        while True:
            rows = self._shell.ask(*kind.split(), "list")
            left = {row["ID"]: row["Status"] for row in rows if row["ID"] in wanted}
            if not left:
                return
            if any("error" in each.lower() for each in left.values()) or time.monotonic() > deadline:
                raise EvidenceMismatch(what=f"{kind} (see {self._logs})", expected="gone", found=left)
            time.sleep(_POLL_SECONDS)

    def remains(self, kind: str) -> list[str]:
        """Return the ids of everything of that kind whose name has the prefix, whoever made it."""
        rows = self._shell.ask(*kind.split(), "list")
        return [row["ID"] for row in rows if row["Name"].startswith(self._prefix)]

    def remove(self, kind: str, identifiers: Iterable[str]) -> None:
        """Delete things that an earlier user left, in whatever state they are; not counted as typed."""
        # Cinder refuses to delete what is in an error state of a deletion unless told to try again.
        force = ["--force"] if kind in ("volume", "volume snapshot") else []
        for identifier in identifiers:
            self._shell.run(*kind.split(), "delete", *force, identifier)
        if kind != "volume type":
            self.wait_gone(kind, identifiers)
