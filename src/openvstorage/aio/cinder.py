"""Cinder: API, scheduler and the volume service with the vPool as its backend."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from openvstorage.aio.ini import LOG_LEVELS, Sections, service_user, token_checks
from openvstorage.aio.service import Place, Service
from openvstorage.aio.supervisor import Program
from openvstorage.aio.uwsgi import uwsgi_program
from openvstorage.edge.tls import DIRECTORY_VARIABLE

__all__ = ["Cinder"]

_HOST = "aio"
# Cinder's own switch, taken from the caller's environment: cinder-volume with native threads instead of eventlet.
_NATIVE_THREADS = "OS_CINDER_DISABLE_EVENTLET_PATCHING"


class Cinder(Service):
    """The block storage service.

    :param port: of its API on 127.0.0.1.
    :param database: SQLAlchemy URL.
    :param transport: oslo.messaging URL.
    :param auth_url: Keystone.
    :param glance_url: where images come from.
    :param password: of the service user ``cinder``.
    """

    name = "cinder"
    title = "Cinder"
    path = "/v3"
    schema = ("cinder-manage", "db", "sync")
    api = "cinder-api"
    scheduler = "cinder-scheduler"
    volume = "cinder-volume"

    def __init__(
        self,
        place: Place,
        *,
        port: int,
        database: str,
        transport: str,
        auth_url: str,
        glance_url: str,
        password: str,
    ) -> None:
        super().__init__(place, port, "cinder.conf")
        # The user's own: read by every service after what is generated, and never written.
        self._additions = self._configuration.with_name("cinder.conf.d")
        state = place.paths.data / "cinder"
        self._directories = (state / "coordination",)
        shipped = place.paths.venv / "etc" / "cinder"
        # Privileged helpers of the environment: the default runs sudo, which does not find them.
        helper = {
            "helper_command": f"{place.environment.program('privsep-helper')} --config-file {self._configuration}"
        }
        self._sections = {
            "DEFAULT": {
                "auth_strategy": "keystone",
                "transport_url": transport,
                "state_path": state,
                "api_paste_config": shipped / "api-paste.ini",
                "resource_query_filters_file": shipped / "resource_filters.json",
                "rootwrap_config": shipped / "rootwrap.conf",
                "my_ip": "127.0.0.1",
                "host": _HOST,
                "glance_api_servers": glance_url,
                # A volume of an image that is itself a volume is a clone.
                "allowed_direct_url_schemes": "cinder",
                "enable_force_upload": True,
                "debug": True,
                "default_log_levels": LOG_LEVELS,
            },
            "database": {"connection": database, "max_pool_size": 10},
            "oslo_concurrency": {"lock_path": place.paths.run},
            "coordination": {"backend_url": f"file://{state / 'coordination'}"},
            "keystone_authtoken": token_checks(auth_url, "cinder", password),
            "service_user": {**service_user(auth_url, "cinder", password), "send_service_user_token": True},
            # Who asks Glance where an image is.
            "glance": service_user(auth_url, "cinder", password),
            # Who tells Nova that an attached volume has grown.
            "nova": service_user(auth_url, "cinder", password),
            "cinder_sys_admin": helper,
            "privsep_osbrick": helper,
        }

    @staticmethod
    def host_of_transfers() -> str:
        """The name that it has where it opens volumes itself: the machine's, not the one of its services."""
        return socket.gethostname()

    @property
    def certificate(self) -> Path:
        """Directory of the certificate by which it does, where the edge has TLS."""
        return self._paths.certificate(self.host_of_transfers())

    def offer(self, backends: Sections) -> None:
        """Have these backends, by name of their section; the next :meth:`configure` writes it."""
        enabled = {**self._sections["DEFAULT"], "enabled_backends": ",".join(backends)}
        self._sections = {**self._sections, "DEFAULT": enabled, **backends}

    def configure(self) -> None:
        """Write the configuration; what a user added stays."""
        super().configure()
        self._additions.mkdir(exist_ok=True, mode=0o700)

    @property
    def _options(self) -> tuple[str, ...]:
        return f"--config-file={self._configuration}", f"--config-dir={self._additions}"

    @property
    def _files(self) -> tuple[Path, ...]:
        return self._configuration, *sorted(self._additions.glob("*.conf"))

    def _api(self) -> Program:
        return uwsgi_program(
            self.api,
            self._environment,
            "cinder.wsgi.api",
            self._port,
            arguments=f"{' '.join(self._options)} --log-file={self._supervisor.log(self.api)}",
            version=self._environment.version,
            files=self._files,
        )

    def _others(self) -> tuple[Program, ...]:
        # os-brick, which knows no backend section, opens volumes that move to another backend.
        variables = {DIRECTORY_VARIABLE: str(self.certificate)}
        if _NATIVE_THREADS in os.environ:
            variables[_NATIVE_THREADS] = os.environ[_NATIVE_THREADS]
        return self._service(self.scheduler, {}), self._service(self.volume, variables)

    def _service(self, name: str, variables: Mapping[str, str]) -> Program:
        return Program(
            name=name,
            argv=(self._environment.program(name), *self._options),
            environment=variables,
            files=self._files,
            version=self._environment.version,
            stop_seconds=30,
        )
