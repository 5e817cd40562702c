"""Instances: the part of the cloud that runs guests, which a cloud for storage alone does without."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from openvstorage.aio import acceleration
from openvstorage.aio.catalog import Endpoint, connect, host_is_usable, make_flavors
from openvstorage.aio.errors import ProgramFailed
from openvstorage.aio.image import make_image
from openvstorage.aio.libvirt import Libvirt
from openvstorage.aio.neutron import Neutron
from openvstorage.aio.nova import Nova
from openvstorage.aio.placement import Placement
from openvstorage.aio.service import Place
from openvstorage.aio.steps import Step

__all__ = ["Instances"]


class Instances:
    """Placement, Neutron's API, Nova, libvirt.

    :param ports: of ``placement``, ``neutron`` and ``nova``.
    :param passwords: of the service users of the same names, and of ``admin``.
    :param database: gives the SQLAlchemy URL of a database.
    :param transport: oslo.messaging URL.
    :param auth_url: Keystone.
    """

    users = ("placement", "neutron", "nova")
    databases = ("placement", "neutron", *Nova.databases)
    #: Each port by the program that listens on it.
    programs: Mapping[str, str] = {"placement": Placement.name, "neutron": Neutron.name, "nova": Nova.api}

    def __init__(
        self,
        place: Place,
        libvirt: Libvirt,
        *,
        ports: Mapping[str, int],
        passwords: Mapping[str, str],
        database: Callable[[str], str],
        transport: str,
        auth_url: str,
    ) -> None:
        self._place = place
        self._libvirt = libvirt
        self._auth_url = auth_url
        self._admin_password = passwords["admin"]
        self.placement = Placement(
            place,
            port=ports["placement"],
            database=database("placement"),
            auth_url=auth_url,
            password=passwords["placement"],
        )
        self.neutron = Neutron(
            place,
            port=ports["neutron"],
            database=database("neutron"),
            transport=transport,
            auth_url=auth_url,
            password=passwords["neutron"],
        )
        self.nova = Nova(
            place,
            port=ports["nova"],
            api_database=database("nova_api"),
            database=database("nova"),
            transport=transport,
            auth_url=auth_url,
            passwords=passwords,
            libvirt_uri=libvirt.uri,
        )

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """What the catalogue says of these services."""
        return (
            Endpoint("placement", "placement", self.placement.url),
            Endpoint("neutron", "network", self.neutron.url),
            Endpoint("nova", "compute", self.nova.url),
        )

    def steps(self) -> list[Step]:
        """Return the steps that bring this part up; they need some of the cloud's own."""
        databases = ("environment", "mariadb")
        return [
            Step("nova-database", "Nova's databases", self.nova.prepare, (*databases, "rabbitmq")),
            # The services log in as soon as they start.
            Step("nova", "Nova", self.nova.start, ("nova-database", "catalog")),
            Step("libvirt", "libvirt", self._libvirt.start, ("packages",)),
            Step("acceleration", "a guest, to try KVM", self._choose_acceleration, ("packages",)),
            Step("bindings", "libvirt's Python bindings", self._link_bindings, ("packages", "environment")),
            Step("placement-database", "Placement's database", self.placement.prepare, databases),
            Step("placement", "Placement", self.placement.start, ("placement-database",)),
            Step(
                "compute",
                "Nova's compute service",
                self._start_compute,
                ("libvirt", "bindings", "acceleration", "nova", "placement"),
            ),
            Step("neutron-database", "Neutron's database", self.neutron.prepare, databases),
            Step("neutron", "Neutron's API", self.neutron.start, ("neutron-database",)),
            Step("host", "Nova's host", self._await_host, ("compute", "neutron")),
        ]

    def _link_bindings(self) -> str:
        self._place.environment.link_modules("libvirt", "libvirtmod", "libvirt_qemu", "libvirtmod_qemu")
        return "Debian's linked"

    def _choose_acceleration(self) -> str:
        chosen = self.acceleration = acceleration.choose(
            self._place.paths.etc / "acceleration.json", make_image(self._place.paths)
        )
        return f"{'KVM' if chosen.virt_type == 'kvm' else 'TCG'}, because {chosen.reason}"

    def _start_compute(self) -> str:
        self.nova.configure_compute(self.acceleration.virt_type)
        return self.nova.start_compute()

    def _await_host(self) -> str:
        cloud = connect(self._auth_url, self._admin_password)
        make_flavors(cloud)
        since = self._place.supervisor.started(Nova.compute)
        # The scheduler finds it, and Placement knows what it has: an instance asked for before that goes to "error".
        self._place.supervisor.wait_ready(
            Nova.compute, lambda: self._controller_runs() and host_is_usable(cloud, since)
        )
        return "takes instances"

    def _controller_runs(self) -> bool:
        """Whether the services run that the compute service waits for in vain without end. Raises ProgramFailed."""
        for name in (Nova.conductor, Nova.scheduler):
            if self._place.supervisor.identity(name) is None:
                raise ProgramFailed(name, "has ended", self._place.supervisor.log(name))
        return True
