"""The tour: what a user does with volumes, each step with evidence from a path that knows nothing of OpenStack.

The evidence is never what the step itself said: bytes are read through the edge and compared with the file that the
image was made of, not with what was read before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from openvstorage.aio.certificates import TOUR
from openvstorage.aio.cloud import Cloud
from openvstorage.aio.errors import AioError, TourFailed
from openvstorage.aio.evidence import EdgeEvidence
from openvstorage.aio.image import make_image
from openvstorage.aio.nova import Nova
from openvstorage.aio.report import Report, StepReport
from openvstorage.aio.shell import OpenStackShell
from openvstorage.aio.tour_instance import InstanceSteps
from openvstorage.aio.tour_steps import PREFIX, TourSteps
from openvstorage.aio.user import User
from openvstorage.client import Client, OpenvStorageError
from openvstorage.edge.errors import EdgeError

__all__ = ["Tour"]

# A step of many commands shows these first ones; the report has all.
_SHOWN = 6


class Tour:
    """One tour through a cloud that is up.

    :param report: gets a list of what was done (:class:`StepReport`).
    :param storage_only: leave out the steps with an instance.
    :param corrupt: falsify one byte between making and comparing a volume, to show that the tour notices.
    """

    def __init__(
        self, cloud: Cloud, console: Console, report: Path, *, storage_only: bool = False, corrupt: bool = False
    ) -> None:
        self._cloud = cloud
        self._console = console
        self._report = Report(report)
        self._with_instances = cloud.has_instances and not storage_only
        self._corrupt = corrupt

    def run(self) -> Report:
        """Do all steps, print each with its result, and clean up; blocks for some minutes.

        Returns the report. Raises TourFailed at the first step that fails; what was made stays for a look at it, and
        the next tour removes it.
        """
        if not self._cloud.programs():
            raise TourFailed(step="start", reason="the cloud is not up: run 'openvstorage aio up' first")
        status = self._cloud.vpool.status()
        clouds = self._cloud.paths.state / "clouds.yaml"
        logs = self._cloud.paths.log
        with (
            Client.from_status(status) as client,
            OpenStackShell(self._cloud.environment.program("openstack"), clouds, "aio") as shell,
        ):
            user = User(shell, PREFIX, logs)
            certificate = self._cloud.certificates.directory(TOUR)
            edge = EdgeEvidence(client, status["vpool_guid"], logs / "tour.log", certificate)
            self._clean(user)
            image = make_image(self._cloud.paths)
            for name, action in self._steps(user, edge, image):
                self._step(user, name, action)
        self._console.print(f"All {len(self._report.steps)} steps are proved; see {self._report.file}", soft_wrap=True)
        return self._report

    def _steps(self, user: User, edge: EdgeEvidence, image: Path) -> list[tuple[str, Callable[[], str]]]:
        steps = TourSteps(user, edge, image, self._cloud.vpool.pool, corrupt=self._corrupt).all()
        return steps + self._instance_steps(user, edge, image).all() if self._with_instances else steps

    def _instance_steps(self, user: User, edge: EdgeEvidence, image: Path) -> InstanceSteps:
        cloud = self._cloud
        return InstanceSteps(
            user,
            edge,
            image,
            cloud.vpool.pool,
            instances=cloud.instances.nova.instances,
            compute_log=cloud.supervisor.log(Nova.compute),
            libvirt_version=cloud.libvirt.version,
        )

    def _step(self, user: User, name: str, action: Callable[[], str]) -> None:
        user.typed.clear()
        started = time.monotonic()
        error: Exception | None = None
        try:
            evidence = action()
        except (AioError, OpenvStorageError, EdgeError) as failure:
            error, evidence = failure, str(failure)
        seconds = round(time.monotonic() - started, 2)
        step = StepReport(name, "; ".join(user.typed), seconds, error is None, evidence)
        self._report.add(step)
        self._show(step, user.typed)
        if error is not None:
            raise TourFailed(step=name, reason=str(error)) from error

    def _show(self, step: StepReport, typed: list[str]) -> None:
        mark = "[green]ok[/]" if step.ok else "[red]FAILED[/]"
        self._console.print(f"{mark} {step.seconds:6.1f} s  {step.name}", highlight=False)
        lines = [f"$ openstack {command}" for command in typed[:_SHOWN]]
        if len(typed) > _SHOWN:
            lines.append(f"… and {len(typed) - _SHOWN} more commands, see the report")
        for line in lines:
            self._console.print(f"              {line}", style="dim", markup=False, soft_wrap=True)
        self._console.print(f"              {step.evidence}", markup=False, highlight=False, soft_wrap=True)

    def _clean(self, user: User) -> None:
        """Remove what an earlier tour left, whatever state it is in."""
        kinds = ("volume snapshot", "volume", "image", "volume type")
        for kind in ("server", *kinds) if self._cloud.has_instances else kinds:
            try:
                user.remove(kind, user.remains(kind))
            except AioError as error:
                raise TourFailed(step=f"removing what an earlier tour left ({kind})", reason=str(error)) from error
