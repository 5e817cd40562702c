"""The driver's options, where they are registered, and how a client is made of them.

The guide of 2017 named its options ``management_ips``, ``username``, ``password``, ``port`` and ``vpool_guid``. These
names are still read, but in the backend's own section only: in ``[backend_defaults]`` a plain ``password`` may belong
to another driver, and must not be sent to our cluster.
"""

from __future__ import annotations

import copy
from typing import Any

from cinder.volume import configuration
from oslo_config import cfg

from openvstorage.client import Client, ConfigurationError
from openvstorage.edge.tls import DEFAULT_DIRECTORY

__all__ = ["GUIDE_NAMES", "OPTIONS", "list_opts", "make_client", "register"]

OPTIONS: list[cfg.Opt] = [
    cfg.ListOpt(
        "openvstorage_management_ips",
        default=[],
        help="Addresses or names of the nodes that run the management API of the vPool service or the Open vStorage "
        "cluster, separated by commas. When one does not answer, the next one is asked.",
    ),
    cfg.PortOpt("openvstorage_port", default=443, help="TCP port of the management API on each of these nodes."),
    cfg.StrOpt(
        "openvstorage_username", help="User that the driver logs in as. It needs the roles read, write and manage."
    ),
    cfg.StrOpt(
        "openvstorage_password",
        secret=True,
        help="Password of that user. As everywhere in cinder.conf a $ in it is written $$: one alone begins the name "
        "of another option.",
    ),
    cfg.StrOpt("openvstorage_vpool_guid", help="Guid (not the name) of the vPool that this backend's volumes live in."),
    cfg.StrOpt(
        "openvstorage_ca_file",
        help="PEM file with the CA that signed the certificate of the management API. Without it the certificate has "
        "to be signed by a CA that the Python library requests trusts, which a vPool service's own CA is not.",
    ),
    cfg.BoolOpt(
        "openvstorage_insecure",
        default=False,
        help="Accept any certificate. Whoever can answer in place of the cluster then gets the password.",
    ),
    cfg.StrOpt(
        "openvstorage_edge_tls_dir",
        default=str(DEFAULT_DIRECTORY),
        help="Directory with this host's certificate for the edge (ca-cert.pem, client-cert.pem, client-key.pem), as "
        "'openvstorage enroll' makes it for the name that this host has. Only used where vDisks are served with TLS.",
    ),
    cfg.FloatOpt(
        "openvstorage_timeout",
        default=30.0,
        min=1.0,
        help="Seconds without an answer after which a node counts as failed and the next one is asked.",
    ),
    cfg.IntOpt(
        "openvstorage_snapshot_timeout",
        min=0,
        help="Seconds that a snapshot of a running guest may take, told to hosts with the patched QEMU. Only for Open "
        "vStorage clusters without NBD; without it QEMU's own default counts.",
    ),
]

_REQUIRED = [f"openvstorage_{name}" for name in ("management_ips", "username", "password", "vpool_guid")]

GUIDE_NAMES = {
    "openvstorage_management_ips": "management_ips",
    "openvstorage_port": "port",
    "openvstorage_username": "username",
    "openvstorage_password": "password",
    "openvstorage_vpool_guid": "vpool_guid",
}
"""Our option's name to the name that the guide of 2017 gave it."""


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Give the options to ``oslo-config-generator`` and the documentation (entry point ``oslo.config.opts``)."""
    return [(configuration.SHARED_CONF_GROUP, OPTIONS)]


def register(backend: Any) -> None:
    """Register the options for a backend, the guide's names in its own section only.

    :param backend: the ``cinder.volume.configuration.Configuration`` that Cinder gives to a driver.
    """
    if backend.config_group:
        # First come, first kept: Cinder ignores the duplicate when it registers the plain options beside these.
        cfg.CONF.register_opts([_with_guide_name(option) for option in OPTIONS], group=backend.config_group)
    backend.append_config_values(OPTIONS)


def make_client(backend: Any) -> Client:
    """Make a client of the cluster that a backend names. Does no I/O.

    :raises ConfigurationError: an option is missing or cannot work; the message names it, and no secret.
    """
    missing = [name for name in _REQUIRED if not _readable(backend, name)]
    if missing:
        raise ConfigurationError(reason=f"set {', '.join(missing)} in section [{backend.config_group}]")
    return Client(
        management_ips=backend.openvstorage_management_ips,
        port=backend.openvstorage_port,
        username=backend.openvstorage_username,
        password=backend.openvstorage_password,
        ca_file=backend.openvstorage_ca_file,
        verify=not backend.openvstorage_insecure,
        timeout=backend.openvstorage_timeout,
    )


def _readable(backend: Any, name: str) -> Any:
    """Give an option's value. :raises ConfigurationError: it holds a $ that oslo.config takes for another option's."""
    try:
        return getattr(backend, name)
    except cfg.NoSuchOptError:
        # Its text has what stands behind the $, which of a password is to be seen nowhere.
        words = f"{name} in section [{backend.config_group}] holds a $ that is read as the name of an option: write $$"
        raise ConfigurationError(reason=f"{words} for each $ in it") from None


def _with_guide_name(option: cfg.Opt) -> cfg.Opt:
    if option.name not in GUIDE_NAMES:
        return option
    alias = copy.copy(option)
    alias.deprecated_opts = [cfg.DeprecatedOpt(GUIDE_NAMES[option.name])]
    return alias
