"""Cinder: API, scheduler and the volume service with the vPool as its backend."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from openvstorage.aio import uwsgi
from openvstorage.aio.command import run
from openvstorage.aio.environment import Environment
from openvstorage.aio.ini import LOG_LEVELS, service_user, token_checks, write_ini
from openvstorage.aio.paths import Paths
from openvstorage.aio.supervisor import Program, Supervisor

__all__ = ["Cinder"]

_HOST = "aio"
# Cinder's own switch, taken from the caller's environment: cinder-volume with native threads instead of eventlet.
_NATIVE_THREADS = "OS_CINDER_DISABLE_EVENTLET_PATCHING"


class Cinder:
    """The block storage service.

    :param port: of its API on 127.0.0.1.
    :param database: SQLAlchemy URL.
    :param transport: oslo.messaging URL.
    :param auth_url: Keystone.
    :param glance_url: where images come from.
    :param password: of the service user ``cinder``.
    """

    api = "cinder-api"
    scheduler = "cinder-scheduler"
    volume = "cinder-volume"

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
        glance_url: str,
        password: str,
    ) -> None:
        self._paths = paths
        self._supervisor = supervisor
        self._environment = environment
        self._port = port
        self._configuration = paths.etc / "cinder" / "cinder.conf"
        # The user's own: read by every service after what is generated, and never written.
        self._additions = paths.etc / "cinder" / "cinder.conf.d"
        self._state = paths.data / "cinder"
        shipped = paths.venv / "etc" / "cinder"
        # Privileged helpers of the environment: the default runs sudo, which does not find them.
        helper = {"helper_command": f"{environment.program('privsep-helper')} --config-file {self._configuration}"}
        self._sections: dict[str, Mapping[str, object]] = {
            "DEFAULT": {
                "auth_strategy": "keystone",
                "transport_url": transport,
                "state_path": self._state,
                "api_paste_config": shipped / "api-paste.ini",
                "resource_query_filters_file": shipped / "resource_filters.json",
                "rootwrap_config": shipped / "rootwrap.conf",
                "my_ip": "127.0.0.1",
                "host": _HOST,
                "glance_api_servers": glance_url,
                "enable_force_upload": True,
                "debug": True,
                "default_log_levels": LOG_LEVELS,
            },
            "database": {"connection": database, "max_pool_size": 10},
            "oslo_concurrency": {"lock_path": paths.run},
            "coordination": {"backend_url": f"file://{self._state / 'coordination'}"},
            "keystone_authtoken": token_checks(auth_url, "cinder", password),
            "service_user": {**service_user(auth_url, "cinder", password), "send_service_user_token": True},
            # Who tells Nova that an attached volume has grown.
            "nova": service_user(auth_url, "cinder", password),
            "cinder_sys_admin": helper,
            "privsep_osbrick": helper,
        }

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self._port}/v3"

    def configure(self, backends: Mapping[str, Mapping[str, object]]) -> None:
        """Write the configuration with these backends, by name of their section; what a user added stays."""
        sections = {**self._sections, **backends}
        sections["DEFAULT"] = {**sections["DEFAULT"], "enabled_backends": ",".join(backends)}
        write_ini(self._configuration, sections)
        (self._state / "coordination").mkdir(parents=True, exist_ok=True)
        self._additions.mkdir(exist_ok=True, mode=0o700)

    def prepare(self) -> None:
        """Bring the database's schema up to date. Raises CommandFailed."""
        manage: list[str | Path] = [
            self._environment.program("cinder-manage"),
            *self._options,
            "db",
            "sync",
        ]
        run("the set-up of Cinder's database", manage, self._paths.log / "cinder-manage.log")

    def start(self) -> str:
        """Start API, scheduler and volume service; blocks until the API answers. Raises ProgramFailed."""
        arguments = f"{' '.join(self._options)} --log-file={self._supervisor.log(self.api)}"
        api = uwsgi.uwsgi_program(
            self.api,
            self._environment,
            "cinder.wsgi.api",
            self._port,
            arguments=arguments,
            version=self._environment.version,
            files=self._files,
        )
        native = {_NATIVE_THREADS: os.environ[_NATIVE_THREADS]} if _NATIVE_THREADS in os.environ else {}
        services = self._service(self.scheduler, {}), self._service(self.volume, native)
        return uwsgi.serve(self._supervisor, api, self.url, *services)

    @property
    def _options(self) -> tuple[str, ...]:
        return f"--config-file={self._configuration}", f"--config-dir={self._additions}"

    @property
    def _files(self) -> tuple[Path, ...]:
        return self._configuration, *sorted(self._additions.glob("*.conf"))

    def _service(self, name: str, variables: Mapping[str, str]) -> Program:
        return Program(
            name=name,
            argv=(self._environment.program(name), *self._options),
            environment=variables,
            files=self._files,
            version=self._environment.version,
            stop_seconds=30,
        )
