"""Neutron: its API only. Nova asks it about every instance, also about those without a network.

There are no agents: what they set up (bridges, namespaces, addresses of a machine) is not for a plain process on a
machine that is used for other things. Instances are made with ``--nic none``.
"""

from __future__ import annotations

from openvstorage.aio.ini import token_checks
from openvstorage.aio.service import Place, Service

__all__ = ["Neutron"]


class Neutron(Service):
    """The network service's API.

    :param port: of its API on 127.0.0.1.
    :param database: SQLAlchemy URL.
    :param transport: oslo.messaging URL.
    :param auth_url: Keystone.
    :param password: of the service user ``neutron``.
    """

    name = "neutron"
    title = "Neutron"
    module = "neutron.wsgi.api"
    processes = 1
    # Some two hundred migrations.
    schema = ("neutron-db-manage", "upgrade", "heads")

    def __init__(self, place: Place, *, port: int, database: str, transport: str, auth_url: str, password: str) -> None:
        super().__init__(place, port, "neutron.conf")
        state = place.paths.data / "neutron"
        self._directories = (state,)
        self._sections = {
            "DEFAULT": {
                "log_file": place.supervisor.log(self.name),
                "transport_url": transport,
                "state_path": state,
                "api_paste_config": place.paths.venv / "etc" / "neutron" / "api-paste.ini",
                "core_plugin": "ml2",
                "service_plugins": "",
                # Nobody listens to either.
                "dhcp_agent_notification": False,
                "notify_nova_on_port_status_changes": False,
                "notify_nova_on_port_data_changes": False,
            },
            "database": {"connection": database, "max_pool_size": 10},
            "oslo_concurrency": {"lock_path": place.paths.run},
            "ml2": {
                # The one for VLANs looks into the database at the start. Without that the first question about ports
                # would fail, and every one after it: the models are put together by the first query of a process.
                "type_drivers": "local,flat,vlan",
                "tenant_network_types": "local",
                "mechanism_drivers": "",
                "extension_drivers": "port_security",
            },
            "keystone_authtoken": token_checks(auth_url, self.name, password),
        }
