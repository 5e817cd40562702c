"""Keystone: who may do what, and where the services are."""

from __future__ import annotations

from openvstorage.aio.credentials import REGION, make_key_repository
from openvstorage.aio.ini import LOG_LEVELS
from openvstorage.aio.service import Place, Service
from openvstorage.aio.supervisor import base_environment

__all__ = ["Keystone"]


class Keystone(Service):
    """The identity service.

    :param port: of its API on 127.0.0.1.
    :param database: SQLAlchemy URL.
    :param admin_password: given to the user ``admin``.
    """

    name = "keystone"
    title = "Keystone"
    module = "keystone.wsgi.api"
    path = "/v3"
    # Each process would have a cache of its own, and not hear of what another one changes.
    processes = 1
    schema = ("keystone-manage", "db_sync")
    # What others still do while they end may need a token.
    stop_stage = 1

    def __init__(self, place: Place, *, port: int, database: str, admin_password: str) -> None:
        super().__init__(place, port, "keystone.conf")
        self._admin_password = admin_password
        self._tokens = self._configuration.with_name("fernet-keys")
        self._credentials = self._configuration.with_name("credential-keys")
        self._sections = {
            "DEFAULT": {
                "log_file": place.supervisor.log(self.name),
                "debug": True,
                "default_log_levels": LOG_LEVELS,
                "max_token_size": 255,
            },
            "database": {"connection": database, "max_pool_size": 10},
            "fernet_tokens": {"key_repository": self._tokens},
            # Receipts (of a login in several steps) may share the keys of tokens.
            "fernet_receipts": {"key_repository": self._tokens},
            "credential": {"key_repository": self._credentials},
            "token": {"provider": "fernet", "expiration": 86400},
            "cache": {"enabled": True, "backend": "dogpile.cache.memory"},
        }

    def configure(self) -> None:
        """Write configuration and keys."""
        super().configure()
        make_key_repository(self._tokens)
        make_key_repository(self._credentials)

    @property
    def _about(self) -> str:
        # The bootstrap writes Keystone's own endpoint.
        return self.url

    def _make(self) -> None:
        super()._make()
        words = ["bootstrap", "--bootstrap-region-id", REGION]
        for interface in ("public", "internal", "admin"):
            words += [f"--bootstrap-{interface}-url", self.url]
        # By the environment, not the command line, which is public.
        environment = {**base_environment(), "OS_BOOTSTRAP_PASSWORD": self._admin_password}
        self._manage("keystone-manage", *self._options, *words, environment=environment)
