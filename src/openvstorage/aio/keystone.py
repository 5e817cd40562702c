"""Keystone: who may do what, and where the services are."""

from __future__ import annotations

from pathlib import Path

from openvstorage.aio import uwsgi
from openvstorage.aio.command import run
from openvstorage.aio.credentials import REGION, make_key_repository
from openvstorage.aio.environment import Environment
from openvstorage.aio.ini import LOG_LEVELS, Sections, write_ini
from openvstorage.aio.paths import Paths
from openvstorage.aio.supervisor import Supervisor, base_environment

__all__ = ["Keystone"]


class Keystone:
    """The identity service.

    :param port: of its API on 127.0.0.1.
    :param database: SQLAlchemy URL.
    :param admin_password: given to the user ``admin``.
    """

    name = "keystone"

    def __init__(
        self,
        paths: Paths,
        supervisor: Supervisor,
        environment: Environment,
        *,
        port: int,
        database: str,
        admin_password: str,
    ) -> None:
        self._paths = paths
        self._supervisor = supervisor
        self._environment = environment
        self._port = port
        self._admin_password = admin_password
        self._directory = paths.etc / "keystone"
        self._configuration = self._directory / "keystone.conf"
        self._sections: Sections = {
            "DEFAULT": {
                "log_file": supervisor.log(self.name),
                "debug": True,
                "default_log_levels": LOG_LEVELS,
                "max_token_size": 255,
            },
            "database": {"connection": database, "max_pool_size": 10},
            "fernet_tokens": {"key_repository": self._directory / "fernet-keys"},
            # Receipts (of a login in several steps) may share the keys of tokens.
            "fernet_receipts": {"key_repository": self._directory / "fernet-keys"},
            "credential": {"key_repository": self._directory / "credential-keys"},
            "token": {"provider": "fernet", "expiration": 86400},
            "cache": {"enabled": True, "backend": "dogpile.cache.memory"},
        }

    @property
    def url(self) -> str:
        """What clients log in at."""
        return f"http://127.0.0.1:{self._port}/v3"

    def configure(self) -> None:
        """Write configuration and keys."""
        write_ini(self._configuration, self._sections)
        make_key_repository(self._directory / "fernet-keys")
        make_key_repository(self._directory / "credential-keys")

    def prepare(self) -> None:
        """Bring the database's schema up to date and make administrator, region and endpoint. Raises CommandFailed."""
        manage: list[str | Path] = [self._environment.program("keystone-manage"), "--config-file", self._configuration]
        log = self._paths.log / "keystone-manage.log"
        run("the set-up of Keystone's database", [*manage, "db_sync"], log)
        words = ["bootstrap", "--bootstrap-region-id", REGION]
        for interface in ("public", "internal", "admin"):
            words += [f"--bootstrap-{interface}-url", self.url]
        # By the environment, not the command line, which is public.
        environment = {**base_environment(), "OS_BOOTSTRAP_PASSWORD": self._admin_password}
        run("the bootstrap of Keystone", [*manage, *words], log, environment=environment)

    def start(self) -> str:
        """Start the API; blocks until it answers. Raises ProgramFailed."""
        variables = {"OS_KEYSTONE_CONFIG_DIR": str(self._directory), "OS_KEYSTONE_CONFIG_FILES": "keystone.conf"}
        program = uwsgi.uwsgi_program(
            self.name,
            self._environment,
            "keystone.wsgi.api",
            self._port,
            variables=variables,
            # Each process would have a cache of its own, and not hear of what another one changes.
            processes=1,
            version=self._environment.openstack_version,
            files=(self._configuration,),
            # What others still do while they end may need a token.
            stop_stage=1,
        )
        return uwsgi.serve(self._supervisor, program, self.url)
