"""What ``openvstorage status`` tells: where the service of a data directory is, and whether it answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests

from openvstorage.vpool.access import authority
from openvstorage.vpool.backends.layers.files import SUFFIX, has_subclusters
from openvstorage.vpool.exports.identity import Identity
from openvstorage.vpool.pool import PoolDirectory, PoolError

TIMEOUT_SECONDS = 10.0
PRIVATE = ("start_time", "boot_id")


def status(data: Path) -> dict[str, Any]:
    """Ask how the service of a data directory is. Blocks for up to ten seconds.

    :returns: ``api_url``, ``management_ips``, ``port``, ``ca_file``, ``username``, ``password_file``, ``vpool_guid``,
        ``vpool_name``, ``durability`` (of vDisks that have none of their own), ``edge_tls``, ``certificate_ends``
        (ISO 8601, of the server's certificate), ``pid`` (null when it does not run), ``healthy``, ``layers``, of these
        ``layers_ignoring_discards``, which give no space back, and once the service has told them the fields of
        :class:`operations.context.Upkeep`.
    :raises PoolError: it was never started there.
    :raises AuthorityError, OSError: the server's certificate can not be read.
    """
    directory = PoolDirectory(data.resolve())
    path = directory.state_file
    try:
        state: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise PoolError(f"no service was ever started in {data}: start one with 'openvstorage serve'") from error
    except PermissionError as error:
        raise PoolError(f"{path} can not be read: ask as the user who runs the service") from error
    running = Identity(state["pid"], state["start_time"], state["boot_id"]).alive()
    shown = {key: value for key, value in state.items() if key not in PRIVATE}
    layers = list(directory.layers.glob(f"*{SUFFIX}"))
    in_place = shown.pop("discards_in_place", False)
    return shown | {
        "layers": len(layers),
        "layers_ignoring_discards": sum(not (in_place and has_subclusters(path)) for path in layers),
        "certificate_ends": authority.valid_until(directory.tls / "server-cert.pem").isoformat(),
        **_upkeep(directory),
        "pid": state["pid"] if running else None,
        "healthy": running and _answers(state),
    }


def _upkeep(directory: PoolDirectory) -> dict[str, Any]:
    try:
        left: dict[str, Any] = json.loads(directory.upkeep_file.read_text())
    except FileNotFoundError:
        return {}  # the service has not come to it yet
    return left


def _answers(state: dict[str, Any]) -> bool:
    with requests.Session() as session:
        session.trust_env = False  # a proxy for the outside world is none for this machine
        try:
            answer = session.get(state["api_url"], verify=state["ca_file"], timeout=TIMEOUT_SECONDS)
        except requests.RequestException:
            return False
    return bool(answer.ok)
