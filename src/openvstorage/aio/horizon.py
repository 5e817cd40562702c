"""Horizon: OpenStack's web pages."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from openvstorage.aio import uwsgi
from openvstorage.aio.command import run
from openvstorage.aio.paths import write_private
from openvstorage.aio.service import Place, Service
from openvstorage.aio.supervisor import Program, base_environment

__all__ = ["Horizon"]

# Both in one process: each of its own would spend more on imports than on the work. What pages load is linked, not
# copied, from the environment.
_MAKE_FILES = """
import django
from django.core.management import call_command

django.setup()
call_command("collectstatic", clear=True, interactive=False, link=True, verbosity=1)
call_command("compress", force=True, verbosity=1)
"""
# Where there is no Nova, Horizon needs a little help.
_PAGES = {
    "customization_module": "openvstorage.aio.horizon_pages",
    "user_home": "openvstorage.aio.horizon_pages.user_home",
}


class Horizon(Service):
    """The web pages, for browsers on this machine or at the other end of an SSH tunnel.

    :param port: on 127.0.0.1.
    :param auth_url: Keystone, where users log in.
    :param secret_key: signs what browsers are given to keep.
    """

    name = "horizon"
    title = "Horizon"
    path = "/"
    # The page where one logs in.
    probe = "auth/login/"
    made = "files"

    def __init__(self, place: Place, *, port: int, auth_url: str, secret_key: str) -> None:
        # Horizon imports ``local.local_settings`` from the first place on Python's path that has it, so its own
        # directory among the installed packages stays as released.
        super().__init__(place, port, "local/local_settings.py")
        self._static = place.paths.data / "horizon" / "static"
        self._sessions = place.paths.data / "horizon" / "sessions"
        self._settings: Mapping[str, object] = {
            "DEBUG": False,
            "ALLOWED_HOSTS": ["127.0.0.1", "localhost"],
            "SECRET_KEY": secret_key,
            "TIME_ZONE": "UTC",
            "OPENSTACK_KEYSTONE_URL": auth_url,
            "OPENSTACK_CINDER_FEATURES": {"enable_backup": False},
            # In files: what a session holds grows with the catalogue, beyond what a browser keeps in a cookie.
            "SESSION_ENGINE": "django.contrib.sessions.backends.file",
            "SESSION_FILE_PATH": str(self._sessions),
            # Browsers give a cookie to every port of a host; clouds that stand side by side would log each other out.
            "SESSION_COOKIE_NAME": f"sessionid-{port}",
            "CACHES": {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
            "AVAILABLE_THEMES": [("default", "Default", "themes/default")],
            "STATIC_ROOT": str(self._static),
            "COMPRESS_OFFLINE": True,
            "LOGGING": {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"line": {"format": "%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"}},
                "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
                "root": {"handlers": ["stderr"], "level": "INFO"},
            },
        }

    @property
    def settings_version(self) -> str:
        """A text that changes when the settings do; they must have been written."""
        return hashlib.sha256(self._configuration.read_bytes()).hexdigest()

    def configure(self) -> None:
        """Write the settings (mode 0600) and make the directory of sessions."""
        write_private(self._configuration.with_name("__init__.py"), "")
        lines = [
            "from openstack_dashboard.settings import HORIZON_CONFIG",
            f"HORIZON_CONFIG.update({_PAGES!r})",
            *(f"{name} = {value!r}" for name, value in self._settings.items()),
        ]
        write_private(self._configuration, "\n".join(lines) + "\n")
        self._sessions.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def _about(self) -> str:
        return self.settings_version

    @property
    def _variables(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(self._configuration.parents[1])}

    def _make(self) -> None:
        run(
            "the gathering of Horizon's style sheets and scripts",
            # Everything else that comes up at the same time is waited for by something.
            ["nice", "-n", "19", self._environment.program("python"), "-c", _MAKE_FILES],
            self._paths.log / "horizon-files.log",
            environment={
                **base_environment(),
                **self._variables,
                "DJANGO_SETTINGS_MODULE": "openstack_dashboard.settings",
            },
        )

    def _api(self) -> Program:
        return uwsgi.uwsgi_program(
            self.name,
            self._environment,
            "openstack_dashboard.wsgi",
            self._port,
            variables=self._variables,
            # Files outside the directory are served only where it is said that they may be: the links lead there.
            options=("--static-map", f"/static={self._static}", "--static-safe", str(self._paths.venv)),
            # One is enough for a person, and each takes seconds to start.
            processes=1,
            version=self._environment.version,
            files=(self._configuration,),
        )
