"""Catalog: the service users, roles and endpoints in Keystone, and the volume type in Cinder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from openvstorage.aio.credentials import REGION
from openvstorage.aio.errors import RequestFailed

__all__ = [
    "Endpoint",
    "allow_image_volumes",
    "connect",
    "fill_catalog",
    "host_is_usable",
    "make_flavors",
    "make_volume_type",
    "offered_backends",
]

_ROLES = ("service", "reader", "member", "manager")
# Name, MiB of memory, GiB of disk where the root is no volume.
_FLAVORS = (("m1.tiny", 256, 1), ("m1.small", 1024, 10))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service as the catalogue names it, and where it is."""

    name: str
    type: str
    url: str


@contextmanager
def _reported(what: str) -> Iterator[None]:
    from openstack.exceptions import SDKException

    try:
        yield
    except SDKException as error:
        raise RequestFailed(what=what, reason=error) from error


def connect(auth_url: str, password: str) -> Any:
    """Return an openstacksdk connection of the administrator; no I/O yet. Proxies of the caller are not used."""
    # Its import takes a second, which commands that do not need it should not pay.
    import openstack

    connection = openstack.connect(
        load_yaml_config=False,
        load_envvars=False,
        auth_url=auth_url,
        username="admin",
        password=password,
        project_name="admin",
        user_domain_name="Default",
        project_domain_name="Default",
        region_name=REGION,
    )
    connection.session.session.trust_env = False
    return connection


def fill_catalog(cloud: Any, passwords: Mapping[str, str], endpoints: tuple[Endpoint, ...]) -> None:
    """Make service project, users, roles and endpoints, or bring them up to date.

    :param cloud: a connection of the administrator.
    :param passwords: of the service users, by name.
    :param endpoints: every service but Keystone, which bootstraps itself.
    Raises RequestFailed.
    """
    with _reported("the set-up of users and endpoints"):
        identity = cloud.identity
        project = identity.find_project("service") or identity.create_project(name="service", domain_id="default")
        roles = {role.name: role for role in identity.roles()}
        for name in _ROLES:
            if name not in roles:
                roles[name] = identity.create_role(name=name)
        for name, password in passwords.items():
            user = identity.find_user(name)
            if user is None:
                about = {"domain_id": "default", "default_project_id": project.id}
                user = identity.create_user(name=name, password=password, **about)
            else:
                identity.update_user(user, password=password)
            for role in ("admin", "service"):
                identity.assign_project_role_to_user(project, user, roles[role])
        for endpoint in endpoints:
            _put_endpoint(identity, endpoint)


def _put_endpoint(identity: Any, endpoint: Endpoint) -> None:
    service = identity.find_service(endpoint.name) or identity.create_service(name=endpoint.name, type=endpoint.type)
    existing = {found.interface: found for found in identity.endpoints(service_id=service.id)}
    for interface in ("public", "internal"):
        found = existing.get(interface)
        if found is None:
            identity.create_endpoint(service_id=service.id, interface=interface, url=endpoint.url, region_id=REGION)
        elif found.url != endpoint.url:
            identity.update_endpoint(found, url=endpoint.url)


def offered_backends(cloud: Any, since: datetime | None = None) -> list[str]:
    """Return the names of the pools that Cinder's scheduler knows, as ``host@backend#pool``. Raises RequestFailed.

    :param since: leave out those not reported since then. The scheduler goes on offering what a cinder-volume that has
        ended has reported, and a volume asked for meanwhile waits, or goes to "error".
    """
    with _reported("the question for Cinder's backends"):
        pools = list(cloud.block_storage.backend_pools())
    return [pool.name for pool in pools if since is None or _later((pool.capabilities or {}).get("timestamp"), since)]


def make_volume_type(cloud: Any, name: str) -> None:
    """Make the volume type whose volumes go to the backend of that name, unless there is one. Raises RequestFailed."""
    with _reported(f"the making of volume type {name}"):
        storage = cloud.block_storage
        if storage.find_type(name) is None:
            storage.create_type(name=name, extra_specs={"volume_backend_name": name})


def allow_image_volumes(cloud: Any) -> None:
    """Lift the limits of the service project, where each image on a volume is one. Raises RequestFailed."""
    with _reported("the limits of the service project"):
        project = cloud.identity.find_project("service", ignore_missing=False)
        cloud.block_storage.update_quota_set(project, volumes=-1, gigabytes=-1)


def make_flavors(cloud: Any) -> None:
    """Make the sizes of instances that there are not yet. Raises RequestFailed."""
    with _reported("the making of flavors"):
        for name, ram, disk in _FLAVORS:
            if cloud.compute.find_flavor(name) is None:
                cloud.compute.create_flavor(name=name, ram=ram, disk=disk, vcpus=1)


def host_is_usable(cloud: Any, since: datetime | None = None) -> bool:
    """Whether Nova has a host that is up, and Placement one with room for a small instance. Raises RequestFailed.

    :param since: when its service was started: what is asked of it before it has said that it is there meets a service
        that takes what it finds for left over by its predecessor.
    """
    with _reported("the question for Nova's hosts"):
        services = cloud.compute.services(binary="nova-compute")
        if since is not None and not any(_later(service.updated_at, since) for service in services):
            return False
        # Only hosts that the scheduler finds are listed.
        up = any(host.state == "up" for host in cloud.compute.hypervisors(details=True))
        return up and any(cloud.placement.resource_providers(resources="VCPU:1,MEMORY_MB:256"))


def _later(told: str | None, since: datetime) -> bool:
    """Whether a time as OpenStack's services tell it, UTC without saying so, is later."""
    return told is not None and datetime.fromisoformat(told).replace(tzinfo=UTC) > since
