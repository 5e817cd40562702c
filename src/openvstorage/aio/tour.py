"""The tour: what a user does with volumes, each step with evidence from a path that knows nothing of OpenStack.

The evidence is never what the step itself said: bytes are read through the edge and compared with the file that the
image was made of, not with what was read before.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from openvstorage.aio.cloud import Cloud
from openvstorage.aio.errors import AioError, EvidenceMismatch, TourFailed
from openvstorage.aio.evidence import Content, EdgeEvidence, content_of_file
from openvstorage.aio.image import make_image
from openvstorage.aio.report import Report, StepReport
from openvstorage.aio.shell import OpenStackShell, ShellError
from openvstorage.client import Client, OpenvStorageError

__all__ = ["Tour"]

_GIB = 1024**3
_PREFIX = "tour-"
_SECONDS = 180.0
_POLL_SECONDS = 0.2
# What the tour writes over the volume after its snapshot: inside the image, and no value that is there already.
_PATCH_OFFSET = 32 * 1024**2
_PATCH = bytes([0x5A]) * 65536


class Tour:
    """One tour through a cloud that is up.

    :param report: gets a list of what was done (:class:`StepReport`).
    :param corrupt: falsify one byte between making and comparing a volume, to show that the tour notices.
    """

    def __init__(self, cloud: Cloud, console: Console, report: Path, *, corrupt: bool = False) -> None:
        self._cloud = cloud
        self._console = console
        self._report = Report(report)
        self._corrupt = corrupt
        self._type = cloud.vpool.pool
        self._typed: list[str] = []
        # Names to ids of what the tour made.
        self._ids: dict[str, str] = {}

    def run(self) -> Report:
        """Do all steps, print each with its result, and clean up; blocks for about a minute.

        Returns the report. Raises TourFailed at the first step that fails; what was made stays for a look at it, and
        the next tour removes it.
        """
        if not self._cloud.programs():
            raise TourFailed(step="start", reason="the cloud is not up: run 'openvstorage aio up' first")
        status = self._cloud.vpool.status()
        clouds = self._cloud.paths.state / "clouds.yaml"
        with (
            Client.from_status(status) as client,
            OpenStackShell(self._cloud.environment.program("openstack"), clouds, "aio") as shell,
        ):
            self._shell = shell
            self._edge = EdgeEvidence(client, status["vpool_guid"], self._cloud.paths.log / "tour.log")
            self._image = make_image(self._cloud.paths)
            self._clean()
            for name, action in self._steps():
                self._step(name, action)
        self._console.print(f"All {len(self._report.steps)} steps are proved; see {self._report.file}", soft_wrap=True)
        return self._report

    def _steps(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("create an empty volume", self._empty_volume),
            ("upload a bootable image", self._upload_image),
            ("create a volume from the image", self._volume_from_image),
            ("take a snapshot", self._snapshot),
            ("create a volume from the snapshot", self._volume_from_snapshot),
            ("clone the volume, larger", self._clone),
            ("extend the volume", self._extend),
            ("delete snapshot and origin, keep what came from them", self._delete_origin),
            ("delete the rest", self._delete_rest),
        ]

    def _step(self, name: str, action: Callable[[], str]) -> None:
        self._typed = []
        started = time.monotonic()
        error: Exception | None = None
        try:
            evidence = action()
        except (AioError, OpenvStorageError) as failure:
            error, evidence = failure, str(failure)
        seconds = round(time.monotonic() - started, 2)
        step = StepReport(name, "; ".join(self._typed), seconds, error is None, evidence)
        self._report.add(step)
        mark = "[green]ok[/]" if step.ok else "[red]FAILED[/]"
        self._console.print(f"{mark} {seconds:6.1f} s  {name}", highlight=False)
        for command in self._typed:
            self._console.print(f"              $ openstack {command}", style="dim", markup=False, soft_wrap=True)
        self._console.print(f"              {evidence}", markup=False, highlight=False, soft_wrap=True)
        if error is not None:
            raise TourFailed(step=name, reason=str(error)) from error

    # Steps. Each returns its evidence in words or raises.

    def _empty_volume(self) -> str:
        volume = self._make_volume("empty", "--size", "1")
        content = self._edge.read(self._edge.vdisk(volume), 0)
        _expect("the volume through the edge", (_GIB, True), (content.size, content.rest_is_zero))
        return f"through the edge: {content.size} bytes, every one zero"

    def _upload_image(self) -> str:
        image = self._ask(
            *("image", "create", "--disk-format", "raw", "--container-format", "bare"),
            *("--file", str(self._image), _PREFIX + "image"),
        )
        self._ids["image"] = image["id"]
        self._await("image", "image", "active")
        stored = self._shell.ask("image", "show", image["id"])["properties"]["os_hash_value"]
        expected = hashlib.sha512(self._image.read_bytes()).hexdigest()
        _expect("Glance's SHA-512 of the image", expected, stored)
        return f"Glance's SHA-512 is that of the file: {expected[:16]}…"

    def _volume_from_image(self) -> str:
        volume = self._make_volume("boot", "--image", self._ids["image"], "--size", "1")
        vdisk = self._edge.vdisk(volume)
        if self._corrupt:
            self._edge.write(vdisk, _PATCH_OFFSET + 4711, 0xFF, 1)
        return self._compare("the volume", vdisk, _GIB, content_of_file(self._image))

    def _snapshot(self) -> str:
        made = self._ask("volume", "snapshot", "create", "--volume", self._ids["boot"], _PREFIX + "snapshot")
        self._ids["snapshot"] = made["id"]
        self._await("volume snapshot", "snapshot", "available")
        vdisk = self._edge.vdisk(self._ids["boot"])
        self._edge.write(vdisk, _PATCH_OFFSET, _PATCH[0], len(_PATCH))
        changed = self._compare("the volume, after a write", vdisk, _GIB, self._patched())
        snapshot = self._edge.snapshot(vdisk, made["id"])
        return self._compare("the snapshot", vdisk, _GIB, content_of_file(self._image), snapshot) + "; " + changed

    def _volume_from_snapshot(self) -> str:
        volume = self._make_volume("restored", "--snapshot", self._ids["snapshot"])
        return self._compare("the new volume", self._edge.vdisk(volume), _GIB, content_of_file(self._image))

    def _clone(self) -> str:
        volume = self._make_volume("clone", "--source", self._ids["boot"], "--size", "2")
        return self._compare("the clone", self._edge.vdisk(volume), 2 * _GIB, self._patched())

    def _extend(self) -> str:
        self._run("volume", "set", "--size", "2", self._ids["boot"])
        self._await("volume", "boot", "available")
        return self._compare("the volume", self._edge.vdisk(self._ids["boot"]), 2 * _GIB, self._patched())

    def _delete_origin(self) -> str:
        restored, clone = (self._edge.vdisk(self._ids[name]) for name in ("restored", "clone"))
        self._delete("volume snapshot", "snapshot")
        self._delete("volume", "boot")
        first = self._compare("the volume from the snapshot", restored, _GIB, content_of_file(self._image))
        return first + "; " + self._compare("the clone", clone, 2 * _GIB, self._patched())

    def _delete_rest(self) -> str:
        volumes = {name: self._ids[name] for name in ("clone", "restored", "empty")}
        for name in volumes:
            self._delete("volume", name)
        self._delete("image", "image")
        left = [name for name, volume in volumes.items() if not self._edge.gone(volume)]
        _expect("vDisks that are left on the vPool", [], left)
        return "the vPool has no vDisk of these volumes any more"

    # What steps share.

    def _patched(self) -> str:
        return content_of_file(self._image, (_PATCH_OFFSET, _PATCH))

    def _compare(self, what: str, vdisk: str, size: int, sha256: str, snapshot: str | None = None) -> str:
        length = self._image.stat().st_size
        content = self._edge.read(vdisk, length, snapshot)
        _expect(f"{what} through the edge", Content(size, sha256, length, True), content)
        return (
            f"{what} through the edge: {size} bytes, SHA-256 of the image's part {sha256[:16]}… as expected, rest zero"
        )

    def _make_volume(self, name: str, *words: str) -> str:
        made = self._ask("volume", "create", "--type", self._type, *words, _PREFIX + name)
        self._ids[name] = made["id"]
        self._await("volume", name, "available")
        return str(made["id"])

    def _await(self, kind: str, name: str, wanted: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while (status := self._shell.ask(*kind.split(), "show", self._ids[name])["status"]) != wanted:
            if "error" in status or time.monotonic() > deadline:
                logs = self._cloud.paths.log
                raise EvidenceMismatch(what=f"{kind} {name} (see {logs})", expected=wanted, found=status)
            time.sleep(_POLL_SECONDS)

    def _delete(self, kind: str, name: str) -> None:
        self._run(*kind.split(), "delete", self._ids[name])
        self._await_gone(kind, self._ids.pop(name))

    def _await_gone(self, kind: str, identifier: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while True:
            found = {row["ID"]: row for row in self._shell.ask(*kind.split(), "list")}.get(identifier)
            if found is None:
                return
            if "error" in found["Status"] or time.monotonic() > deadline:
                raise EvidenceMismatch(what=f"{kind} {identifier}", expected="gone", found=found["Status"])
            time.sleep(_POLL_SECONDS)

    def _ask(self, *words: str) -> Any:
        self._typed.append(" ".join(words))
        return self._shell.ask(*words)

    def _run(self, *words: str) -> None:
        self._typed.append(" ".join(words))
        self._shell.run(*words)

    def _clean(self) -> None:
        """Remove what an earlier tour left, whatever state it is in."""
        for kind in ("volume snapshot", "volume", "image"):
            rows = self._shell.ask(*kind.split(), "list")
            left = [row["ID"] for row in rows if row["Name"].startswith(_PREFIX)]
            for identifier in left:
                # Cinder refuses to delete what is in an error state of a deletion unless told to try again.
                force = ["--force"] if kind != "image" else []
                try:
                    self._shell.run(*kind.split(), "delete", *force, identifier)
                except ShellError as error:
                    raise TourFailed(step=f"removing what an earlier tour left ({kind})", reason=str(error)) from error
            for identifier in left:
                self._await_gone(kind, identifier)


def _expect(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise EvidenceMismatch(what=what, expected=expected, found=found)
