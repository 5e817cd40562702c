"""Glance: images, kept in a directory."""

from __future__ import annotations

from openvstorage.aio import uwsgi
from openvstorage.aio.command import run
from openvstorage.aio.environment import Environment
from openvstorage.aio.ini import LOG_LEVELS, Sections, token_checks, write_ini
from openvstorage.aio.paths import Paths
from openvstorage.aio.supervisor import Supervisor

__all__ = ["Glance"]


class Glance:
    """The image service.

    :param port: of its API on 127.0.0.1.
    :param database: SQLAlchemy URL.
    :param auth_url: Keystone.
    :param password: of the service user ``glance``.
    """

    name = "glance"

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
        self._directory = paths.etc / "glance"
        self._configuration = self._directory / "glance-api.conf"
        data = paths.data / "glance"
        self._stores = [data / "images", data / "staging", data / "tasks"]
        self._sections: Sections = {
            "DEFAULT": {
                "log_file": supervisor.log(self.name),
                "debug": True,
                "default_log_levels": LOG_LEVELS,
                "enabled_backends": "files:file",
                "node_staging_uri": f"file://{data / 'staging'}",
                "workers": 1,
                "worker_self_reference_url": self.url,
            },
            "paste_deploy": {
                "flavor": "keystone",
                "config_file": paths.venv / "etc" / "glance" / "glance-api-paste.ini",
            },
            "database": {"connection": database, "max_pool_size": 10},
            "glance_store": {"default_backend": "files"},
            # The image of a volume is as large as the volume, and mostly zeros.
            "files": {"filesystem_store_datadir": data / "images", "filesystem_thin_provisioning": True},
            "os_glance_staging_store": {"filesystem_store_datadir": data / "staging"},
            "os_glance_tasks_store": {"filesystem_store_datadir": data / "tasks"},
            "oslo_concurrency": {"lock_path": paths.run},
            "keystone_authtoken": token_checks(auth_url, "glance", password),
        }

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self._port}"

    def configure(self) -> None:
        """Write the configuration and make the directories of the stores."""
        write_ini(self._configuration, self._sections)
        for directory in self._stores:
            directory.mkdir(parents=True, exist_ok=True)

    def prepare(self) -> None:
        """Bring the database's schema up to date. Raises CommandFailed."""
        run(
            "the set-up of Glance's database",
            [self._environment.program("glance-manage"), "--config-file", self._configuration, "db_sync"],
            self._paths.log / "glance-manage.log",
        )

    def start(self) -> str:
        """Start the API; blocks until it answers. Raises ProgramFailed."""
        program = uwsgi.uwsgi_program(
            self.name,
            self._environment,
            "glance.wsgi.api",
            self._port,
            variables={"OS_GLANCE_CONFIG_DIR": str(self._directory)},
            version=self._environment.openstack_version,
            files=(self._configuration,),
        )
        return uwsgi.serve(self._supervisor, program, f"{self.url}/versions")
