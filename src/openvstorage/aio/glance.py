"""Glance: images, kept in a directory, or on volumes of the vPool where that store is asked for."""

from __future__ import annotations

from collections.abc import Mapping

from openvstorage.aio.cinder import Cinder
from openvstorage.aio.ini import LOG_LEVELS, token_checks
from openvstorage.aio.service import Place, Service
from openvstorage.edge.tls import DIRECTORY_VARIABLE

__all__ = ["Glance"]


class Glance(Service):
    """The image service.

    :param port: of its API on 127.0.0.1.
    :param database: SQLAlchemy URL.
    :param auth_url: Keystone.
    :param password: of the service user ``glance``, in whose project the volumes of images are.
    :param volume_type: of these volumes.
    :cvar volumes: the store for images on volumes; the other one is ``files``, where nothing is said.
    """

    name = "glance"
    title = "Glance"
    module = "glance.wsgi.api"
    probe = "/versions"
    schema = ("glance-manage", "db_sync")
    volumes = "volumes"

    def __init__(
        self, place: Place, *, port: int, database: str, auth_url: str, password: str, volume_type: str
    ) -> None:
        super().__init__(place, port, "glance-api.conf")
        data = place.paths.data / "glance"
        helper = place.environment.program("privsep-helper")
        self._directories = (data / "images", data / "staging", data / "tasks")
        self._sections = {
            "DEFAULT": {
                "log_file": place.supervisor.log(self.name),
                "debug": True,
                "default_log_levels": LOG_LEVELS,
                "enabled_backends": f"files:file,{self.volumes}:cinder",
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
            self.volumes: {
                "cinder_store_auth_address": auth_url,
                "cinder_store_user_name": self.name,
                "cinder_store_password": password,
                "cinder_store_project_name": "service",
                "cinder_volume_type": volume_type,
            },
            # The default runs sudo, which does not find the helper of the environment.
            "privsep_osbrick": {"helper_command": f"{helper} --config-file {self._configuration}"},
            "os_glance_staging_store": {"filesystem_store_datadir": data / "staging"},
            "os_glance_tasks_store": {"filesystem_store_datadir": data / "tasks"},
            "oslo_concurrency": {"lock_path": place.paths.run},
            "keystone_authtoken": token_checks(auth_url, self.name, password),
        }

    @property
    def _variables(self) -> Mapping[str, str]:
        # It opens volumes under the machine's name, as Cinder does.
        return {**super()._variables, DIRECTORY_VARIABLE: str(self._paths.certificate(Cinder.host_of_transfers()))}

    @property
    def _version(self) -> str:
        """Our connector runs in it."""
        return self._environment.version
