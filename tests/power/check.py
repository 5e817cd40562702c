"""What must be right after the power went: asked of a service that was started on what the device kept."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.power.history import Disk, Expectation, GrantOf, History, Presence, Promise, Snapshot
from tests.power.scenario import read_all
from tests.power.service import NotServed, PowerService
from tests.power.write_log import SECTOR

from openvstorage.client import Client
from openvstorage.client.errors import OpenvStorageError
from openvstorage.client.grant import Grant
from openvstorage.client.vdisk import VDisk

__all__ = ["Findings", "check_pool"]

_SETTLE_SECONDS = 60.0
#: Of the sectors of a vDisk that are wrong, so many are named.
_SHOWN = 3


@dataclass
class Findings:
    """What was found at an instant.

    :ivar violations: a sentence for each.
    :ivar sectors: how many were read and were right. :ivar snapshots: how many were read.
    :ivar leaks: layers with clusters that nobody uses: space, not data.
    :ivar undone: things that were under way when the power went, and are not there now.
    """

    violations: list[str] = field(default_factory=list)
    sectors: int = 0
    disks: int = 0
    snapshots: int = 0
    leaks: int = 0
    finished: int = 0
    undone: int = 0


def check_pool(
    data: Path, history: History, instant: int, promise: Promise | None, image_tool: Path, work: Path, log: Path
) -> Findings:
    """Start the service on a data directory, look at everything, and stop it.

    :param instant: up to which entry of the log the device had been written to.
    :param promise: to be demanded of every vDisk, None for its own durability.
    :param image_tool: path of ``qemu-img``.
    :param work: for temporary files. :param log: what the service prints, empty before.
    """
    findings = Findings()
    # What else it was told at its first start it has to remember itself.
    service = PowerService(data, log)
    try:
        service.start()
        with Client.from_status(service.status, patience=_SETTLE_SECONDS) as client:
            _Check(service, client, history, instant, promise, work, findings).all()
    except (OpenvStorageError, NotServed, OSError, ValueError, subprocess.SubprocessError) as error:
        findings.violations.append(f"{type(error).__name__}: {error}")
    finally:
        service.stop()
    findings.violations += list(_damage(data, image_tool, findings))
    return findings


class _Check:
    def __init__(
        self,
        service: PowerService,
        client: Client,
        history: History,
        instant: int,
        promise: Promise | None,
        work: Path,
        findings: Findings,
    ) -> None:
        self._data = service.data
        self._vpool = str(service.status["vpool_guid"])
        self._client, self._history, self._instant, self._promise = client, history, instant, promise
        self._work, self._findings = work, findings

    def all(self) -> None:
        """Look at everything; leaves no grant behind, so that every daemon ends of itself."""
        self._await("all that was begun has ended", self._unfinished)
        found = {vdisk.name: vdisk for vdisk in self._client.vdisks.list(self._vpool)}
        known = {disk.name: disk for disk in self._history.disks}
        for name in found.keys() - known.keys():
            self._wrong(f"nobody asked for vDisk {name}")
        for disk in self._history.disks:
            if self._there(f"vDisk {disk.name}", disk.presence(self._instant), disk.name in found):
                self._check_disk(disk, found[disk.name])
        self._check_config()
        guid = self._client.vdisks.create("afterwards", 1024**3, self._vpool)
        self._client.vdisks.delete(guid)
        for grant in list(self._client.grants.all()):
            self._client.grants.revoke(grant.guid)
        self._await("files and layers agree", self._stray_files)

    def _check_disk(self, disk: Disk, vdisk: VDisk) -> None:
        sizes = disk.possible_sizes(self._instant)
        if vdisk.size // SECTOR not in sizes:
            self._wrong(f"{disk.name} has {vdisk.size // SECTOR} sectors and not {sizes}")
        # An attempt that a restart of the service cut off may have had another one.
        if disk.created.presence(self._instant) is Presence.PRESENT and vdisk.guid != disk.guid:
            self._wrong(f"{disk.name} is {vdisk.guid} and not {disk.guid}")
        self._check_grants(disk, vdisk)
        grants = [grant for grant in self._client.grants.list(vdisk.guid) if grant.mode == "rw"]
        grant = grants[0] if grants else self._client.grants.create(vdisk.guid, "this-host", "checker")
        self._compare(
            disk.name, grant.uri, disk.expected(self._instant, self._promise or disk.promise), vdisk.size // SECTOR
        )
        self._findings.disks += 1
        self._check_snapshots(disk, vdisk)

    def _check_grants(self, disk: Disk, vdisk: VDisk) -> None:
        found = {grant.guid: grant for grant in self._client.grants.list(vdisk.guid)}
        for grant in disk.grants:
            what = f"{disk.name}: grant {grant.guid}"
            if self._there(what, self._grant_presence(grant), grant.guid in found):
                self._check_grant(what, disk, grant, found[grant.guid])

    def _check_grant(self, what: str, disk: Disk, grant: GrantOf, found: Grant) -> None:
        """A client goes on where it was; unless what was not flushed may be lost: then it must not go on unaware.

        An operation may have ended the daemon in order, and then nothing is lost.
        """
        address, before = (uri.rpartition("/")[0] for uri in (found.uri, grant.uri))
        cut_off = disk.promise is Promise.FLUSHED and found.mode == "rw"
        in_use = self._grant_presence(grant) is Presence.PRESENT and not any(
            span.presence(self._instant) is Presence.EITHER for span in disk.spans()
        )
        if address != before or (not cut_off and found.uri != grant.uri):
            self._wrong(f"{what} is at {found.uri} and not at {grant.uri}")
        if cut_off and in_use and found.uri == grant.uri:
            self._wrong(f"{what} has its old name, although what was not flushed may be lost")

    def _grant_presence(self, grant: GrantOf) -> Presence:
        made = grant.span.presence(self._instant)
        gone = grant.revoked.presence(self._instant) if grant.revoked else Presence.ABSENT
        if gone is Presence.PRESENT or made is Presence.ABSENT:
            return Presence.ABSENT
        return made if gone is Presence.ABSENT else Presence.EITHER

    def _check_snapshots(self, disk: Disk, vdisk: VDisk) -> None:
        found = {snapshot.label: snapshot for snapshot in self._client.snapshots.list(vdisk.guid)}
        for label in found.keys() - {snapshot.name for snapshot in disk.snapshots}:
            self._wrong(f"nobody asked for snapshot {label} of {disk.name}")
        for snapshot in disk.snapshots:
            what = f"{disk.name}: {snapshot.name}"
            presence = snapshot.presence(self._instant)
            if presence is Presence.PRESENT and disk.presence(self._instant) is Presence.EITHER:
                presence = Presence.EITHER  # going with its vDisk
            if self._there(what, presence, snapshot.name in found):
                self._check_snapshot(what, disk, snapshot, vdisk, found[snapshot.name].guid)

    def _check_snapshot(self, what: str, disk: Disk, snapshot: Snapshot, vdisk: VDisk, guid: str) -> None:
        grant = self._client.grants.create(vdisk.guid, "this-host", f"checker of {guid}", "ro", snapshot_guid=guid)
        self._compare(what, grant.uri, disk.expected_of(snapshot, self._instant, self._promise or disk.promise), None)
        self._findings.snapshots += 1

    def _compare(self, what: str, uri: str, expected: list[Expectation], sectors: int | None) -> None:
        content, strange = read_all(uri, self._work)
        if sectors is not None and len(content) != sectors:
            self._wrong(f"{what} reads {len(content)} sectors of {sectors}")
        wrong = min((one.wrong(content) for one in expected), key=len, default=[])
        if strange or wrong:
            self._wrong(
                f"{what}: {len(strange) + len(wrong)} sectors are wrong: {'; '.join((strange + wrong)[:_SHOWN])}"
            )
        self._findings.sectors += len(content) - content.count(0) - len(wrong)

    def _check_config(self) -> None:
        """What the service was told must have been remembered, once it had been started."""
        if self._history.served.presence(self._instant) is not Presence.PRESENT:
            return
        kept = json.loads((self._data / "config.json").read_text())
        different = {key for key, value in self._history.config.items() if kept.get(key) != value and key != "listen"}
        if different:
            self._wrong(f"config.json has forgotten {sorted(different)}")

    def _there(self, what: str, presence: Presence, found: bool) -> bool:
        if presence is Presence.PRESENT and not found:
            self._wrong(f"{what} is not there, although that was acknowledged")
        if presence is Presence.ABSENT and found:
            self._wrong(f"{what} is there: it was deleted, or not asked for yet")
        if presence is Presence.EITHER:
            self._findings.finished += found
            self._findings.undone += not found
        return found

    def _await(self, what: str, unmet: Callable[[], str]) -> None:
        deadline = time.monotonic() + _SETTLE_SECONDS
        while text := unmet():
            if time.monotonic() > deadline:
                self._wrong(f"it does not come to be that {what}: {text}")
                return
            time.sleep(0.2)

    def _unfinished(self) -> str:
        rows = _rows(self._data, "SELECT type, phase, error FROM operation")
        # A task that had not begun is begun by the next start.
        tasks = _rows(self._data, "SELECT kind, status FROM task WHERE finished_at IS NULL")
        return f"operations {rows}, tasks {tasks}" if rows or tasks else ""

    def _stray_files(self) -> str:
        rows = {f"{row[0]}.qcow2" for row in _rows(self._data, "SELECT guid FROM layer")}
        files = {path.name for path in (self._data / "layers").iterdir()}
        trash = _rows(self._data, "SELECT guid, state FROM layer WHERE state NOT IN ('active', 'frozen')")
        lost = list((self._data / "lost+found").glob("*"))
        different = f"layers {trash}, files and rows differ by {sorted(rows ^ files)}, lost+found {lost}"
        return different if rows != files or trash or lost else ""

    def _wrong(self, text: str) -> None:
        self._findings.violations.append(text)


def _damage(data: Path, image_tool: Path, findings: Findings) -> Iterator[str]:
    """What is wrong with files that nobody has open any more."""
    if (data / "model.sqlite3").exists():
        answer = _rows(data, "PRAGMA integrity_check")
        if answer != [("ok",)]:
            yield f"model.sqlite3: {answer}"
    for layer in (data / "layers").glob("*.qcow2"):
        alone = {"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": str(layer)}}
        words = [image_tool, "check", "-q", f"json:{json.dumps(alone)}"]
        result = subprocess.run(words, capture_output=True, text=True, check=False)
        if result.returncode == 3:
            findings.leaks += 1
        elif result.returncode:
            yield f"qemu-img check of {layer.name}: {(result.stdout + result.stderr).strip()[-300:]}"


def _rows(data: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{data / 'model.sqlite3'}?mode=ro", uri=True, timeout=60)) as database:
        return database.execute(query).fetchall()
