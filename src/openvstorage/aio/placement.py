"""Placement: which host has how much of what."""

from __future__ import annotations

from openvstorage.aio.ini import token_checks
from openvstorage.aio.service import Place, Service

__all__ = ["Placement"]


class Placement(Service):
    """The service that Nova's scheduler asks for hosts.

    :param port: of its API on 127.0.0.1.
    :param database: SQLAlchemy URL.
    :param auth_url: Keystone.
    :param password: of the service user ``placement``.
    """

    name = "placement"
    title = "Placement"
    module = "placement.wsgi.api"
    processes = 1
    schema = ("placement-manage", "db", "sync")

    def __init__(self, place: Place, *, port: int, database: str, auth_url: str, password: str) -> None:
        super().__init__(place, port, "placement.conf")
        self._sections = {
            "DEFAULT": {"log_file": place.supervisor.log(self.name)},
            "api": {"auth_strategy": "keystone"},
            "placement_database": {"connection": database, "max_pool_size": 10},
            "keystone_authtoken": token_checks(auth_url, self.name, password),
        }
