"""Neutron: its API only. Nova asks it about every instance, also about those without a network.

There are no agents: what they set up (bridges, namespaces, addresses of a machine) is not for a plain process on a
machine that is used for other things. Instances are made with ``--nic none``.
"""

from __future__ import annotations

from openvstorage.aio import uwsgi
from openvstorage.aio.command import run
from openvstorage.aio.environment import Environment
from openvstorage.aio.ini import Sections, token_checks, write_ini
from openvstorage.aio.paths import Paths
from openvstorage.aio.supervisor import Supervisor

__all__ = ["Neutron"]


class Neutron:
    """The network service's API.

    :param port: of its API on 127.0.0.1.
    :param database: SQLAlchemy URL.
    :param transport: oslo.messaging URL.
    :param auth_url: Keystone.
    :param password: of the service user ``neutron``.
    """

    name = "neutron"

    def __init__(
        self,
        paths: Paths,
        supervisor: Supervisor,
        environment: Environment,
        *,
        port: int,
        database: str,
        transport: str,
        auth_url: str,
        password: str,
    ) -> None:
        self._paths = paths
        self._supervisor = supervisor
        self._environment = environment
        self._port = port
        self._directory = paths.etc / "neutron"
        self._configuration = self._directory / "neutron.conf"
        self._state = paths.data / "neutron"
        self._sections: Sections = {
            "DEFAULT": {
                "log_file": supervisor.log(self.name),
                "transport_url": transport,
                "state_path": self._state,
                "api_paste_config": paths.venv / "etc" / "neutron" / "api-paste.ini",
                "core_plugin": "ml2",
                "service_plugins": "",
                # Nobody listens to either.
                "dhcp_agent_notification": False,
                "notify_nova_on_port_status_changes": False,
                "notify_nova_on_port_data_changes": False,
            },
            "database": {"connection": database, "max_pool_size": 10},
            "oslo_concurrency": {"lock_path": paths.run},
            "ml2": {
                # The one for VLANs looks into the database at the start. Without that the first question about ports
                # would fail, and every one after it: the models are put together by the first query of a process.
                "type_drivers": "local,flat,vlan",
                "tenant_network_types": "local",
                "mechanism_drivers": "",
                "extension_drivers": "port_security",
            },
            "keystone_authtoken": token_checks(auth_url, "neutron", password),
        }

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self._port}"

    def configure(self) -> None:
        """Write the configuration."""
        write_ini(self._configuration, self._sections)
        self._state.mkdir(parents=True, exist_ok=True)

    def prepare(self) -> None:
        """Bring the database's schema up to date; some two hundred migrations. Raises CommandFailed."""
        run(
            "the set-up of Neutron's database",
            [self._environment.program("neutron-db-manage"), "--config-file", self._configuration, "upgrade", "heads"],
            self._paths.log / "neutron-manage.log",
        )

    def start(self) -> str:
        """Start the API; blocks until it answers. Raises ProgramFailed."""
        program = uwsgi.uwsgi_program(
            self.name,
            self._environment,
            "neutron.wsgi.api",
            self._port,
            variables={
                "OS_NEUTRON_CONFIG_DIR": str(self._directory),
                "OS_NEUTRON_CONFIG_FILES": self._configuration.name,
            },
            processes=1,
            version=self._environment.openstack_version,
            files=(self._configuration,),
        )
        return uwsgi.serve(self._supervisor, program, self.url)
