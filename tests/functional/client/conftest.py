"""The management APIs that the library is tested against: a stand-in for Open vStorage 2.9, and our own service."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.standin29 import PASSWORD, USERNAME, StandIn
from tests.support.standin29_tls import Authority

from openvstorage.client import Client


@dataclass(frozen=True)
class ManagementApi:
    """A cluster under test.

    :ivar connect: gives a client; options as of the constructor.
    :ivar extended: whether it has the extensions beside Open vStorage's own API.
    """

    connect: Callable[..., Client]
    vpool_guid: str
    vpool_name: str
    extended: bool


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def certificate(authority: Authority) -> Path:
    return authority.issue("127.0.0.1", "127.0.0.2")


@pytest.fixture
def standin(certificate: Path) -> Iterator[StandIn]:
    with StandIn(certificate) as server:
        yield server


@pytest.fixture
def connect(authority: Authority) -> Iterator[Callable[..., Client]]:
    """Give clients of stand-ins that listen on one port of several addresses; they are closed at the end.

    ``hosts`` and ``port`` replace those of the stand-ins.
    """
    clients: list[Client] = []

    def make(*servers: StandIn, **options: Any) -> Client:
        options = {"username": USERNAME, "password": PASSWORD, "ca_file": authority.ca_file, **options}
        if "credentials" in options:
            del options["username"], options["password"]
        hosts = options.pop("hosts", None) or [server.host for server in servers] or ["127.0.0.1"]
        port = options.pop("port", None) or servers[0].port
        clients.append(Client(hosts, port, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture(params=["standin29", "service"])
def management_api(request: pytest.FixtureRequest) -> Iterator[ManagementApi]:
    if request.param == "standin29":
        standin = request.getfixturevalue("standin")
        connect = request.getfixturevalue("connect")
        yield ManagementApi(
            lambda **options: connect(standin, **options), standin.cluster.vpool_guid, "myvpool01", False
        )
        return
    status = request.getfixturevalue("vpool_service").status
    clients: list[Client] = []

    def connect_service(**options: Any) -> Client:
        clients.append(Client.from_status(status, **options))
        return clients[-1]

    yield ManagementApi(connect_service, status["vpool_guid"], status["vpool_name"], True)
    for client in clients:
        client.close()


@pytest.fixture
def api(management_api: ManagementApi) -> Client:
    return management_api.connect()


@pytest.fixture
def vpool(management_api: ManagementApi) -> str:
    return management_api.vpool_guid
