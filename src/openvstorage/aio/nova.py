"""Nova: API, conductor, scheduler, and the compute service that runs instances in our libvirt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from openvstorage.aio.errors import CommandFailed
from openvstorage.aio.ini import LOG_LEVELS, Sections, service_user, token_checks, write_ini
from openvstorage.aio.service import Place, Service
from openvstorage.aio.supervisor import Program
from openvstorage.aio.uwsgi import uwsgi_program
from openvstorage.edge.tls import DIRECTORY_VARIABLE

__all__ = ["Nova"]

_CELL0 = "nova_cell0"
# Filled from the configuration when they are used: ports may change, and a command line is public.
_CELL0_URL = "{scheme}://{username}:{password}@{hostname}:{port}/" + _CELL0 + "?{query}"
_CELL_URL = "{scheme}://{username}:{password}@{hostname}:{port}/{path}?{query}"
_CELL_TRANSPORT = "{scheme}://{username}:{password}@{hostname}:{port}/"
# What ``nova-manage cell_v2 create_cell`` exits with when there is that cell.
_CELL_EXISTS = 2
_PRIVILEGED = (
    *("nova_sys_admin", "privsep", "privsep_osbrick", "os_brick"),
    *("vif_plug_linux_bridge_privileged", "vif_plug_ovs_privileged"),
)


class Nova(Service):
    """The compute service.

    :param port: of its API on 127.0.0.1.
    :param api_database: SQLAlchemy URL of ``nova_api``.
    :param database: SQLAlchemy URL of ``nova``; another one named ``nova_cell0`` stands beside it.
    :param transport: oslo.messaging URL.
    :param auth_url: Keystone.
    :param passwords: of the service users ``nova``, ``neutron`` and ``placement``.
    :param libvirt_uri: where guests are run.
    """

    #: Also the client's name in grants, and so in the certificate.
    host = "aio"
    name = "nova"
    title = "Nova"
    path = "/v2.1"
    api = "nova-api"
    conductor = "nova-conductor"
    scheduler = "nova-scheduler"
    compute = "nova-compute"
    databases = ("nova_api", "nova", _CELL0)

    def __init__(
        self,
        place: Place,
        *,
        port: int,
        api_database: str,
        database: str,
        transport: str,
        auth_url: str,
        passwords: Mapping[str, str],
        libvirt_uri: str,
    ) -> None:
        super().__init__(place, port, "nova.conf")
        # Only what is meant to reach the databases is told of them.
        self._databases_configuration = self._configuration.with_name("nova-databases.conf")
        self._compute_configuration = self._configuration.with_name("nova-compute.conf")
        self._paste = place.paths.venv / "etc" / "nova" / "api-paste.ini"
        self._libvirt_uri = libvirt_uri
        self.instances = place.paths.data / "nova" / "instances"
        self._directories = (self.instances,)
        me = service_user(auth_url, "nova", passwords["nova"])
        self._databases: Sections = {
            "api_database": {"connection": api_database, "max_pool_size": 10},
            "database": {"connection": database, "max_pool_size": 10},
        }
        self._sections = {
            "DEFAULT": {
                "my_ip": "127.0.0.1",
                "host": self.host,
                "transport_url": transport,
                "state_path": self.instances.parent,
                "rootwrap_config": place.paths.venv / "etc" / "nova" / "rootwrap.conf",
                # There is nobody who would plug one.
                "vif_plugging_is_fatal": False,
                "vif_plugging_timeout": 0,
                "allow_resize_to_same_host": True,
                # Else the first look for hosts, and at guests, comes up to a minute after the start.
                "periodic_fuzzy_delay": 0,
                # On a busy machine a service may be late to say that it is there.
                "service_down_time": 120,
                # Its own default is to wait three minutes for work that goes on.
                "graceful_shutdown_timeout": 2,
                "manager_shutdown_timeout": 1,
                "debug": True,
                "default_log_levels": LOG_LEVELS,
            },
            "api": {"auth_strategy": "keystone"},
            "oslo_concurrency": {"lock_path": place.paths.run},
            "conductor": {"workers": 1},
            "scheduler": {"workers": 1, "discover_hosts_in_cells_interval": 10},
            "vnc": {"enabled": False},
            "cinder": {"catalog_info": "block-storage::publicURL", "os_region_name": me["region_name"]},
            "glance": {"region_name": me["region_name"]},
            "placement": service_user(auth_url, "placement", passwords["placement"]),
            "neutron": service_user(auth_url, "neutron", passwords["neutron"]),
            "service_user": {**me, "send_service_user_token": True},
            "keystone_authtoken": token_checks(auth_url, "nova", passwords["nova"]),
        }

    def configure(self) -> None:
        """Write the configuration that all its programs share, and make the directory of instances."""
        super().configure()
        write_ini(self._databases_configuration, self._databases)

    def configure_compute(self, virt_type: str) -> None:
        """Write what the compute service has to know besides: ``kvm`` or ``qemu``, and where libvirt is."""
        # The default runs sudo, which does not find the helpers of the environment.
        options = _options((self._configuration, self._compute_configuration))
        helper = " ".join([self._environment.program("privsep-helper"), *options])
        sections: Sections = {
            "DEFAULT": {
                "compute_driver": "libvirt.LibvirtDriver",
                "instances_path": self.instances,
                "reserved_host_memory_mb": 512,
            },
            "libvirt": {
                "virt_type": virt_type,
                "cpu_mode": "none" if virt_type == "qemu" else "host-model",
                "connection_uri": self._libvirt_uri,
            },
            **{name: {"helper_command": helper} for name in _PRIVILEGED},
        }
        write_ini(self._compute_configuration, sections)

    def start_compute(self) -> str:
        """Start the compute service; does not wait until it serves. Raises OSError."""
        # The plug-in in it looks, as a guest would, whether a vDisk can be opened again.
        variables = {DIRECTORY_VARIABLE: str(self._paths.certificate(self.host))}
        program = self._service(self.compute, self._configuration, self._compute_configuration, variables=variables)
        return "started" if self._supervisor.start(program) else "running"

    @property
    def _controller(self) -> tuple[Path, ...]:
        return self._configuration, self._databases_configuration

    def _make(self) -> None:
        self._manage_nova("api_db", "sync")
        self._manage_nova("cell_v2", "map_cell0", "--database_connection", _CELL0_URL)
        try:
            words = ("--name", "cell1", "--database_connection", _CELL_URL, "--transport-url", _CELL_TRANSPORT)
            self._manage_nova("cell_v2", "create_cell", *words)
        except CommandFailed as error:
            if error.status != _CELL_EXISTS:
                raise
        self._manage_nova("db", "sync")

    def _manage_nova(self, *words: str) -> None:
        self._manage("nova-manage", *_options(self._controller), *words)

    def _api(self) -> Program:
        return uwsgi_program(
            self.api,
            self._environment,
            "nova.wsgi.osapi_compute",
            self._port,
            variables={"OS_NOVA_CONFIG_FILES": ";".join(map(str, (self._paste, *self._controller)))},
            version=self._environment.openstack_version,
            files=self._controller,
        )

    def _others(self) -> tuple[Program, ...]:
        return tuple(self._service(name, *self._controller) for name in (self.conductor, self.scheduler))

    def _service(self, name: str, *files: Path, variables: Mapping[str, str] | None = None) -> Program:
        return Program(
            name=name,
            argv=(self._environment.program(name), *_options(files)),
            environment=variables or {},
            files=files,
            # Our plug-in runs in the compute service.
            version=self._environment.version if name == self.compute else self._environment.openstack_version,
            stop_seconds=20,
        )


def _options(files: Iterable[Path]) -> list[str]:
    return [word for file in files for word in ("--config-file", str(file))]
