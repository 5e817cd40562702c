"""Glance: images, kept in a directory."""

from __future__ import annotations

from openvstorage.aio.ini import LOG_LEVELS, token_checks
from openvstorage.aio.service import Place, Service

__all__ = ["Glance"]


class Glance(Service):
    """The image service.

    :param port: of its API on 127.0.0.1.
    :param database: SQLAlchemy URL.
    :param auth_url: Keystone.
    :param password: of the service user ``glance``.
    """

    name = "glance"
    title = "Glance"
    module = "glance.wsgi.api"
    probe = "/versions"
    schema = ("glance-manage", "db_sync")

    def __init__(self, place: Place, *, port: int, database: str, auth_url: str, password: str) -> None:
        super().__init__(place, port, "glance-api.conf")
        data = place.paths.data / "glance"
        self._directories = (data / "images", data / "staging", data / "tasks")
        self._sections = {
            "DEFAULT": {
                "log_file": place.supervisor.log(self.name),
                "debug": True,
                "default_log_levels": LOG_LEVELS,
                "enabled_backends": "files:file",
                "node_staging_uri": f"file://{data / 'staging'}",
                "workers": 1,
                "worker_self_reference_url": self.url,
            },
            "paste_deploy": {
                "flavor": "keystone",
                "config_file": place.paths.venv / "etc" / "glance" / "glance-api-paste.ini",
            },
            "database": {"connection": database, "max_pool_size": 10},
            "glance_store": {"default_backend": "files"},
            # The image of a volume is as large as the volume, and mostly zeros.
            "files": {"filesystem_store_datadir": data / "images", "filesystem_thin_provisioning": True},
            "os_glance_staging_store": {"filesystem_store_datadir": data / "staging"},
            "os_glance_tasks_store": {"filesystem_store_datadir": data / "tasks"},
            "oslo_concurrency": {"lock_path": place.paths.run},
            "keystone_authtoken": token_checks(auth_url, self.name, password),
        }
