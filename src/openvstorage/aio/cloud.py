"""The cloud: brings the all-in-one up in parallel steps, and takes it down."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

import openvstorage
from openvstorage.aio import packages, preflight
from openvstorage.aio.catalog import (
    Endpoint,
    allow_image_volumes,
    connect,
    fill_catalog,
    make_volume_type,
    offered_backends,
)
from openvstorage.aio.certificates import Certificates
from openvstorage.aio.cinder import Cinder
from openvstorage.aio.credentials import load_passwords, write_client_files
from openvstorage.aio.environment import Environment
from openvstorage.aio.errors import InstancesRun
from openvstorage.aio.glance import Glance
from openvstorage.aio.horizon import Horizon
from openvstorage.aio.instances import Instances
from openvstorage.aio.keystone import Keystone
from openvstorage.aio.libvirt import Libvirt
from openvstorage.aio.mariadb import MariaDB
from openvstorage.aio.nova import Nova
from openvstorage.aio.paths import Paths
from openvstorage.aio.ports import choose_ports
from openvstorage.aio.rabbitmq import RabbitMQ
from openvstorage.aio.service import Place
from openvstorage.aio.steps import Step, run_steps
from openvstorage.aio.supervisor import Identity, Supervisor
from openvstorage.aio.vpool import VPool

__all__ = ["Cloud", "ProgramState"]

# Each port by the program that listens on it, so that a port of a running program is known to be ours.
_PORTS = {
    "mariadb": "mariadb",
    "epmd": "epmd",
    "rabbitmq": "rabbitmq",
    "rabbitmq-distribution": "rabbitmq",
    "keystone": "keystone",
    "glance": "glance",
    "cinder": "cinder-api",
    "horizon": "horizon",
    "vpool": "vpool",
    **Instances.programs,
}
# The one of Horizon is what it signs with.
_PASSWORDS = ("admin", "glance", "cinder", "database", "messages", "horizon", *Instances.users)
_DATABASES = ("keystone", "glance", "cinder", *Instances.databases)


@dataclass(frozen=True, slots=True)
class ProgramState:
    """What is known of a program: its process (None if it does not run), its port if it has one, its log."""

    name: str
    identity: Identity | None
    port: int | None
    log: Path


class Cloud:
    """An all-in-one in a state directory.

    :param paths: its directories.
    :param console: where progress is shown.
    :param wheel: this project's wheel for OpenStack's environment; built from the source tree unless given.
    """

    def __init__(self, paths: Paths, console: Console, wheel: Path | None = None) -> None:
        self.paths = paths
        self.supervisor = Supervisor(paths)
        self.environment = Environment(paths, wheel)
        self._place = Place(paths, self.supervisor, self.environment)
        self._console = console

    def up(self, storage_only: bool = False, edge_tls: bool | None = None) -> dict[str, float]:
        """Bring everything up, or what is missing of it; blocks until Cinder takes volumes and Nova instances.

        :param storage_only: leave out what instances need; what runs of it is left alone.
        :param edge_tls: whether vDisks are served with TLS from now on; None for what was chosen last, at first yes.
        :returns: seconds by step.

        Raises AioError; what was started stays, so that it can be looked at and the next attempt goes on from there.
        """
        missing = packages.missing(packages.PACKAGES + (() if storage_only else packages.INSTANCE_PACKAGES))
        if missing or not self.environment.complete or not self.supervisor.names():
            preflight.check(
                self.paths,
                downloads=not self.environment.complete,
                missing_packages=missing,
                instances=not storage_only,
            )
        preflight.cap_file_descriptors()
        self.paths.create()
        with self.paths.locked():
            for name in self._choose_ports():
                self._console.print(f"  the port of {name} was taken by another program: it gets a new one")
            self._choose_edge(self.vpool.edge_tls if edge_tls is None else edge_tls)
            write_client_files(self.paths, self.keystone.url, self.passwords["admin"])
            return run_steps(self._steps(missing, storage_only), self._console, self.supervisor.give_up)

    def down(self, purge: bool = False) -> list[str]:
        """Stop everything; with ``purge`` delete the state directory too. Blocks. Returns the names of what ran.

        Raises StateBusy, NotOurs.
        """
        if not self.paths.exists:
            self.paths.purge()  # refuses what is not ours
            return []
        with self.paths.locked():
            # Guests end before their storage does, and after the service that would wonder about it.
            stopped = self.supervisor.stop_stage(0)
            stopped += ["guests"] if self.libvirt.stop_guests() else []
            stopped += self.supervisor.stop_all()
            self.vpool.stop_exports()
            if purge:
                self.paths.purge()
        return stopped

    def programs(self) -> list[ProgramState]:
        """Return the state of every program that was started."""
        if not self.paths.exists:
            return []
        ports = {program: self.ports[name] for name, program in reversed(_PORTS.items())} if self._has_ports else {}
        return [
            ProgramState(name, self.supervisor.identity(name), ports.get(name), self.supervisor.log(name))
            for name in self.supervisor.names()
        ]

    @cached_property
    def ports(self) -> dict[str, int]:
        """The TCP ports by purpose."""
        return choose_ports(self._ports_file, _PORTS, lambda name: True)[0]

    @cached_property
    def passwords(self) -> dict[str, str]:
        """The generated passwords by user."""
        return load_passwords(self.paths.etc / "passwords.json", _PASSWORDS)

    @cached_property
    def mariadb(self) -> MariaDB:
        """The database server."""
        return MariaDB(self.paths, self.supervisor, self.ports["mariadb"], self.passwords["database"])

    @cached_property
    def rabbitmq(self) -> RabbitMQ:
        """The message broker."""
        return RabbitMQ(self.paths, self.supervisor, self.ports, self.passwords["messages"])

    @cached_property
    def vpool(self) -> VPool:
        """The vPool service."""
        return VPool(self.paths, self.supervisor, self.ports["vpool"], _own_version())

    @cached_property
    def certificates(self) -> Certificates:
        """By which programs open vDisks where the edge has TLS."""
        return Certificates(self.paths, self.vpool)

    @cached_property
    def keystone(self) -> Keystone:
        """The identity service."""
        return Keystone(
            self._place,
            port=self.ports["keystone"],
            database=self.mariadb.url("keystone"),
            admin_password=self.passwords["admin"],
        )

    @cached_property
    def glance(self) -> Glance:
        """The image service."""
        return Glance(
            self._place,
            port=self.ports["glance"],
            database=self.mariadb.url("glance"),
            auth_url=self.keystone.url,
            password=self.passwords["glance"],
            volume_type=self.vpool.pool,
        )

    @cached_property
    def cinder(self) -> Cinder:
        """The block storage service."""
        return Cinder(
            self._place,
            port=self.ports["cinder"],
            database=self.mariadb.url("cinder"),
            transport=self.rabbitmq.url,
            auth_url=self.keystone.url,
            glance_url=self.glance.url,
            password=self.passwords["cinder"],
        )

    @cached_property
    def horizon(self) -> Horizon:
        """The web pages."""
        return Horizon(
            self._place,
            port=self.ports["horizon"],
            auth_url=self.keystone.url,
            secret_key=self.passwords["horizon"],
        )

    @property
    def has_instances(self) -> bool:
        """Whether it was brought up with what instances need."""
        return Nova.compute in self.supervisor.names()

    @cached_property
    def libvirt(self) -> Libvirt:
        """The daemon that runs guests."""
        return Libvirt(self.paths, self.supervisor, self.paths.certificate(Nova.host))

    @cached_property
    def instances(self) -> Instances:
        """Everything else that instances need."""
        return Instances(
            self._place,
            self.libvirt,
            ports=self.ports,
            passwords=self.passwords,
            database=self.mariadb.url,
            transport=self.rabbitmq.url,
            auth_url=self.keystone.url,
        )

    def connect(self) -> Any:
        """Return an openstacksdk connection of the administrator."""
        return connect(self.keystone.url, self.passwords["admin"])

    @property
    def _ports_file(self) -> Path:
        return self.paths.etc / "ports.json"

    @property
    def _has_ports(self) -> bool:
        return self._ports_file.exists()

    def _choose_ports(self) -> list[str]:
        self.ports, changed = choose_ports(
            self._ports_file, _PORTS, lambda name: self.supervisor.identity(_PORTS[name]) is not None
        )
        return changed

    def _choose_edge(self, tls: bool) -> None:
        """Choose how vDisks are served. A guest that runs opens its disks again as it did at first, so it would hang.

        Raises InstancesRun.
        """
        guests = self.libvirt.guests()
        if guests and tls != self.vpool.serves_tls:
            raise InstancesRun(count=len(guests), how="with TLS" if self.vpool.serves_tls else "without TLS")
        self.vpool.choose_edge_tls(tls)

    def _steps(self, missing: list[str], storage_only: bool) -> list[Step]:
        # The order is that of urgency: many users of Keystone wait for it, and Nova has the longest way to go.
        return [
            Step("packages", "Debian packages", lambda: self._install_packages(missing)),
            Step("environment", "OpenStack's Python environment", self.environment.install),
            Step("mariadb", "MariaDB", lambda: self.mariadb.start(_DATABASES), ("packages",)),
            Step("rabbitmq", "RabbitMQ", self.rabbitmq.start, ("packages",)),
            Step("vpool", "the vPool service", self.vpool.start, ("packages",)),
            *([self._certificates_step()] if self.vpool.edge_tls else []),
            Step("keystone-database", "Keystone's database", self.keystone.prepare, ("environment", "mariadb")),
            Step("keystone", "Keystone", self.keystone.start, ("keystone-database",)),
            Step("catalog", "users and endpoints", lambda: self._fill_catalog(storage_only), ("keystone",)),
            *([] if storage_only else self.instances.steps()),
            Step(
                "cinder-database",
                "Cinder's database",
                self._prepare_cinder,
                ("environment", "mariadb", "rabbitmq", "vpool"),
            ),
            Step("cinder", "Cinder", self.cinder.start, ("cinder-database",)),
            Step("backend", "Cinder's vPool backend", self._await_backend, ("catalog", "cinder")),
            Step("glance-database", "Glance's database", self.glance.prepare, ("environment", "mariadb")),
            # It asks Cinder for the volume type of its store, and would not start without an answer.
            Step("glance", "Glance", self.glance.start, ("glance-database", "catalog", "cinder")),
            Step("horizon-files", "Horizon's style sheets", self.horizon.prepare, ("environment",)),
            Step("horizon", "Horizon", self.horizon.start, ("horizon-files",)),
        ]

    def _install_packages(self, missing: list[str]) -> str:
        if not missing and not packages.interrupted():
            return "found"
        packages.install(missing, self.paths.log / "packages.log")
        return f"{', '.join(missing) or 'an interrupted installation'} installed, no service started"

    def _certificates_step(self) -> Step:
        return Step("certificates", "certificates for the edge", self._issue_certificates, ("vpool",))

    def _issue_certificates(self) -> str:
        issued = self.certificates.issue()
        kept = "; instances that run keep the one before" if Nova.host in issued and self.libvirt.guests() else ""
        return f"issued for {', '.join(issued)}{kept}" if issued else "found"

    def _prepare_cinder(self) -> str:
        self.cinder.offer({self.vpool.pool: self.vpool.backend(self.cinder.certificate)})
        return self.cinder.prepare()

    def _fill_catalog(self, storage_only: bool) -> str:
        endpoints: tuple[Endpoint, ...] = (
            Endpoint("glance", "image", self.glance.url),
            Endpoint("cinder", "block-storage", self.cinder.url),
            # What clients of before 2024 look for.
            Endpoint("cinderv3", "volumev3", self.cinder.url),
        )
        names: tuple[str, ...] = ("glance", "cinder")
        if not storage_only:
            endpoints, names = endpoints + self.instances.endpoints, names + Instances.users
        users = {name: self.passwords[name] for name in names}
        return self._place.once("catalog", repr(endpoints), lambda: fill_catalog(self.connect(), users, endpoints))

    def _await_backend(self) -> str:
        cloud, since = self.connect(), self.supervisor.started(Cinder.volume)

        def offered() -> bool:
            # The scheduler must have heard of this very process: a volume asked for before that goes to "error".
            return any(f"@{self.vpool.pool}#" in name for name in offered_backends(cloud, since))

        self.supervisor.wait_ready(Cinder.volume, offered)
        make_volume_type(cloud, self.vpool.pool)
        allow_image_volumes(cloud)
        return "offered by the scheduler"


def _own_version() -> str:
    """Return a digest of this project's code as it runs here."""
    package = Path(openvstorage.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
