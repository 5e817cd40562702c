"""Placement: which host has how much of what."""

from __future__ import annotations

from openvstorage.aio import uwsgi
from openvstorage.aio.command import run
from openvstorage.aio.environment import Environment
from openvstorage.aio.ini import Sections, token_checks, write_ini
from openvstorage.aio.paths import Paths
from openvstorage.aio.supervisor import Supervisor

__all__ = ["Placement"]


class Placement:
    """The service that Nova's scheduler asks for hosts.

    :param port: of its API on 127.0.0.1.
    :param database: SQLAlchemy URL.
    :param auth_url: Keystone.
    :param password: of the service user ``placement``.
    """

    name = "placement"

    def __init__(
        self,
        paths: Paths,
        supervisor: Supervisor,
        environment: Environment,
        *,
        port: int,
        database: str,
        auth_url: str,
        password: str,
    ) -> None:
        self._paths = paths
        self._supervisor = supervisor
        self._environment = environment
        self._port = port
        self._directory = paths.etc / "placement"
        self._configuration = self._directory / "placement.conf"
        self._sections: Sections = {
            "DEFAULT": {"log_file": supervisor.log(self.name)},
            "api": {"auth_strategy": "keystone"},
            "placement_database": {"connection": database, "max_pool_size": 10},
            "keystone_authtoken": token_checks(auth_url, "placement", password),
        }

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self._port}"

    def configure(self) -> None:
        """Write the configuration."""
        write_ini(self._configuration, self._sections)

    def prepare(self) -> None:
        """Bring the database's schema up to date. Raises CommandFailed."""
        run(
            "the set-up of Placement's database",
            [self._environment.program("placement-manage"), "--config-file", self._configuration, "db", "sync"],
            self._paths.log / "placement-manage.log",
        )

    def start(self) -> str:
        """Start the API; blocks until it answers. Raises ProgramFailed."""
        program = uwsgi.uwsgi_program(
            self.name,
            self._environment,
            "placement.wsgi.api",
            self._port,
            variables={"OS_PLACEMENT_CONFIG_DIR": str(self._directory)},
            processes=1,
            version=self._environment.openstack_version,
            files=(self._configuration,),
        )
        return uwsgi.serve(self._supervisor, program, self.url)
