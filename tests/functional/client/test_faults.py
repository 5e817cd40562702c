"""Real connections that fail, in every way that a test can make them: what is repeated, and what the caller is told."""

import logging
import socket
import ssl
import threading
from contextlib import contextmanager

import pytest
from tests.support.patience import PATIENCE
from tests.support.standin29 import CLIENT_ID, CLIENT_SECRET, Drop, StandIn
from tests.support.standin29_api import HttpError
from tests.support.standin29_tls import Authority

from openvstorage.client import (
    AnswerLost,
    AuthenticationError,
    CertificateError,
    ClientCredentials,
    ConfigurationError,
    HasClones,
    NotYet,
    TaskLost,
    TaskRevoked,
    TaskTimeout,
    TransportError,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
)

GIB = 1024**3


@pytest.fixture
def pair(certificate):
    """Two nodes of one cluster, on one port of two addresses."""
    with StandIn(certificate) as first:
        second = StandIn(certificate, "127.0.0.2", first.cluster, first.port)
        second.tokens = first.tokens
        second.tasks = first.tasks
        with second:
            yield first, second


def drop(moment, ending, times=1):
    """Give a hook that closes the connection ``times`` times, before or after a request has been done."""
    left = [times]

    def hook(when, method, path):
        if when == moment and path.endswith(ending) and left[0] > 0:
            left[0] -= 1
            raise Drop

    return hook


def fail(status, ending, times=1):
    left = [times]

    def hook(when, method, path):
        if when == "before" and path.endswith(ending) and left[0] > 0:
            left[0] -= 1
            raise HttpError(status, "internal_server", "worker gone")

    return hook


def test_one_of_two_addresses_dies_and_no_operation_fails(pair, connect):
    first, second = pair
    client = connect(first, second, timeout=PATIENCE)
    vpool = first.cluster.vpool_guid
    guids = [client.vdisks.create("a", GIB, vpool)]
    first.stop()
    guids.append(client.vdisks.create("b", GIB, vpool))
    assert {vdisk.guid for vdisk in client.vdisks.list(vpool)} == set(guids)
    client.vdisks.delete(guids[0])


def test_a_node_dies_while_operations_run(pair, connect):
    first, second = pair
    client = connect(first, second, timeout=PATIENCE)
    vpool = first.cluster.vpool_guid
    guid = client.vdisks.create("a", GIB, vpool)
    stop_at = [20]
    errors = []

    def reader():
        try:
            for _ in range(10):
                stop_at[0] -= 1
                if stop_at[0] == 0:
                    first.stop()
                assert client.vdisks.get(guid).guid == guid
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=reader) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert second.seen("GET", f"/vdisks/{guid}/")


def test_nobody_listens(certificate, connect):
    with StandIn(certificate) as server:
        client = connect(server, patience=0.2)
    with pytest.raises(Unreachable, match="Connection refused") as caught:
        client.vdisks.get("x")
    assert not caught.value.maybe_sent
    assert caught.value.__cause__.request is None, "the request held the password"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_lost_answer_to_a_change_is_reported_and_the_change_not_repeated(standin, connect, moment):
    client = connect(standin)
    vpool = standin.cluster.vpool_guid
    standin.interfere = drop(moment, "/vdisks/", times=1000)
    with pytest.raises(AnswerLost) as caught:
        client.vdisks.create("a", GIB, vpool, standin.cluster.routers[0]["guid"])
    assert caught.value.maybe_sent
    assert len(standin.seen("POST", "/vdisks/")) == 1


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_5xx_to_a_change_is_reported_and_the_change_not_repeated(pair, connect, status):
    first, second = pair
    first.interfere = second.interfere = fail(status, "/vdisks/", times=1000)
    with pytest.raises(TransportError, match="worker gone") as caught:
        connect(first, second).vdisks.create("a", GIB, first.cluster.vpool_guid, first.cluster.routers[0]["guid"])
    assert caught.value.maybe_sent
    assert len(first.seen("POST", "/vdisks/") + second.seen("POST", "/vdisks/")) == 1


def test_reading_is_repeated_after_a_lost_answer_and_after_5xx(pair, connect):
    first, second = pair
    client = connect(first, second)
    guid = client.vdisks.create("a", GIB, first.cluster.vpool_guid)
    for server in pair:
        server.interfere = drop("after", f"/{guid}/")
    assert client.vdisks.get(guid).guid == guid
    for server in pair:
        server.interfere = fail(503, f"/{guid}/", times=2)
    assert client.vdisks.get(guid).guid == guid


def test_an_address_that_does_not_answer_is_passed_over_after_the_timeout(standin, connect):
    # Accepts connections, never answers: no TLS handshake, so nothing was sent.
    with socket.create_server(("127.0.0.3", standin.port)):
        client = connect(standin, hosts=["127.0.0.3", standin.host], timeout=3.0)
        assert client.vdisks.create("a", GIB, standin.cluster.vpool_guid)


def test_a_service_that_hangs_is_named_with_how_long_it_was_waited_for(standin, connect, certificate):
    """Whether it stops before the handshake, or in the middle of its answer."""
    with socket.create_server(("127.0.0.3", standin.port)):
        client = connect(standin, hosts=["127.0.0.3"], timeout=0.3, patience=0.0)
        with pytest.raises(Unreachable, match=r"127\.0\.0\.3.* in 0\.3 s"):
            client.features()
    with half_an_answer(certificate) as port:
        client = connect(standin, hosts=["127.0.0.1"], port=port, timeout=0.3, patience=0.0)
        with pytest.raises(AnswerLost, match=r"did not answer in 0\.3 s"):
            client.features()


@contextmanager
def half_an_answer(certificate):
    """Serve whoever connects the beginning of an answer, and give the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    over = threading.Event()

    def serve(server):
        with context.wrap_socket(server.accept()[0], server_side=True) as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            over.wait(60)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield server.getsockname()[1]
        over.set()
        thread.join()


@pytest.mark.parametrize("nonsense", ["", "[::1", "a b", "a..b", "x" * 300, "10.0.0.1:8443"])
def test_an_address_that_cannot_be_one_is_passed_over(standin, connect, nonsense):
    client = connect(standin, hosts=[nonsense, standin.host])
    assert client.vdisks.create("a", GIB, standin.cluster.vpool_guid)


def test_a_client_with_nonsense_for_an_address_names_it(standin, connect):
    with pytest.raises(Unreachable, match=r"a\.\.b.* no address"):
        connect(standin, hosts=["a..b"], patience=0.0).features()


def test_an_answer_that_never_comes_is_given_up(standin, connect):
    stuck = threading.Event()

    def hook(when, method, path):
        if when == "before" and path.endswith("/extend/"):
            stuck.wait(20)

    client = connect(standin, timeout=3.0)
    guid = client.vdisks.create("a", GIB, standin.cluster.vpool_guid)
    standin.interfere = hook
    with pytest.raises(AnswerLost, match=r"did not answer in 3 s"):
        client.vdisks.extend(guid, 2 * GIB)
    stuck.set()


def test_a_server_of_another_ca_is_refused_before_anything_is_sent(tmp_path, standin, connect):
    client = connect(standin, ca_file=Authority(tmp_path).ca_file)
    with pytest.raises(CertificateError) as caught:
        client.features()
    assert not caught.value.retry_helps
    assert standin.requests == []


def test_a_certificate_of_another_address_is_refused(authority, connect):
    with StandIn(authority.issue("127.0.0.9")) as server, pytest.raises(CertificateError, match=r"127\.0\.0\.1"):
        connect(server).features()


def test_without_verification_any_certificate_will_do(standin, connect, tmp_path):
    client = connect(standin, ca_file=None, verify=False)
    with pytest.warns(match="Unverified HTTPS request"):
        assert client.features() == frozenset()
    with pytest.raises(CertificateError):
        connect(standin, ca_file=None).features()


def test_the_environment_does_not_change_who_is_trusted(standin, connect, monkeypatch, tmp_path):
    other = Authority(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other.ca_file))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login nobody password nothing\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert connect(standin).vpools.find("myvpool01")


@pytest.mark.parametrize(
    "content", [None, "", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_an_unusable_ca_file_is_named(standin, connect, tmp_path, content):
    path = tmp_path / "nowhere.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"nowhere\.pem"):
        connect(standin, ca_file=path).features()
    assert standin.requests == []


def test_a_port_without_tls_counts_as_not_sent(connect):
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def serve():
            connection, _ = plain.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        client = connect(port=plain.getsockname()[1], patience=0.0)
        with pytest.raises(Unreachable):
            client.features()


def test_a_wrong_password_is_said_so_and_asked_once(standin, connect):
    with pytest.raises(AuthenticationError, match="admin") as caught:
        connect(standin, password="wrong-hunter2").vdisks.get("x")
    assert "hunter2" not in str(caught.value)
    assert len(standin.seen("POST", "/oauth2/token/")) == 1


def test_client_credentials_work_too(standin, connect):
    client = connect(standin, credentials=ClientCredentials(CLIENT_ID, CLIENT_SECRET))
    assert client.vpools.find("myvpool01")
    with pytest.raises(AuthenticationError):
        connect(standin, credentials=ClientCredentials(CLIENT_ID, "wrong")).vpools.list()


def test_many_clients_and_calls_stay_below_five_tokens_a_minute(standin, connect):
    standin.token_limit = 5
    for number in range(8):
        client = connect(standin)
        guid = client.vdisks.create(f"a{number}", GIB, standin.cluster.vpool_guid)
        client.vdisks.delete(guid)
    assert len(standin.seen("POST", "/oauth2/token/")) == 1


def test_the_lock_out_is_waited_out(standin, connect):
    standin.token_limit = 0
    standin.lockout_seconds = 0.8
    client = connect(standin)

    def lift(when, method, path):
        if len(standin.seen("POST", "/oauth2/token/")) >= 2:
            standin.token_limit = None

    standin.interfere = lift
    assert client.vpools.find("myvpool01")
    assert len(standin.seen("POST", "/oauth2/token/")) >= 2


def test_a_token_that_the_cluster_forgot_is_renewed(standin, connect):
    client = connect(standin)
    assert client.vpools.find("myvpool01")
    standin.tokens.clear()
    assert client.vdisks.create("a", GIB, standin.cluster.vpool_guid)
    assert len(standin.seen("POST", "/oauth2/token/")) == 2
    assert len(standin.cluster.vdisks) == 1


def test_a_lost_a_slow_and_a_revoked_task(standin, connect):
    client = connect(standin, lost_after=0.2)
    vpool = standin.cluster.vpool_guid
    standin.task_state = "LOST"
    with pytest.raises(TaskLost):
        client.vdisks.create("a", GIB, vpool)
    standin.task_state = "REVOKED"
    with pytest.raises(TaskRevoked):
        client.vdisks.create("b", GIB, vpool)
    standin.task_state = "STARTED"
    task = standin.start(lambda: None)
    with pytest.raises(TaskTimeout, match=task):
        client.tasks.wait(task, timeout=0.3)


def test_a_snapshot_waits_for_the_one_before_to_reach_the_backend(standin, connect):
    standin.cluster.syncs_needed = 2
    client = connect(standin)
    guid = client.vdisks.create("a", GIB, standin.cluster.vpool_guid)
    snapshots = [client.snapshots.create(guid, "first"), client.snapshots.create(guid, "second")]
    assert [snapshot.guid for snapshot in client.snapshots.list(guid)] == snapshots
    assert len(standin.seen("POST", "/create_snapshot/")) == 4


def test_a_group_with_a_vdisk_that_is_not_ready_is_undone_and_tried_again(standin, connect):
    client = connect(standin)
    vpool = standin.cluster.vpool_guid
    guids = [client.vdisks.create(name, GIB, vpool) for name in "ab"]
    standin.cluster.syncs_needed = 1
    client.snapshots.create(guids[1], "before")
    standin.cluster.syncs_needed = 1
    taken = client.snapshots.create_group(vpool, guids, "group", atomic=False)
    assert [snapshot.guid for snapshot in client.snapshots.list(guids[0])] == [taken[guids[0]]]
    assert len(client.snapshots.list(guids[1])) == 2


def test_a_snapshot_of_the_same_second_is_not_rolled_back_to_by_mistake(standin, connect):
    client = connect(standin)
    standin.cluster.now = lambda: 1500000000.5
    guid = client.vdisks.create("a", GIB, standin.cluster.vpool_guid)
    first, second = (client.snapshots.create(guid, label) for label in ("first", "second"))
    with pytest.raises(Exception, match="same second"):
        client.vdisks.rollback(guid, second)
    assert len(client.snapshots.list(guid)) == 2
    client.vdisks.rollback(guid, first)
    assert [snapshot.guid for snapshot in client.snapshots.list(guid)] == [first]


def test_a_bug_of_later_releases_is_read_as_has_clones(standin, connect, monkeypatch):
    client = connect(standin)
    guid = client.vdisks.create("a", GIB, standin.cluster.vpool_guid)

    def key_error(vdisk, snapshot_id):
        from tests.support.standin29_model import TaskFailure

        raise TaskFailure("0")

    monkeypatch.setattr(standin.cluster, "remove_snapshot", key_error)
    with pytest.raises(HasClones):
        client.snapshots.delete(guid, "x")


def test_new_vdisks_go_to_the_healthy_node_with_most_room(standin, connect):
    client = connect(standin)
    cluster = standin.cluster
    roomy = cluster.routers[1]["guid"]
    assert client.vdisks.get(client.vdisks.create("a", GIB, cluster.vpool_guid)).storagerouter_guid == roomy
    cluster.routers[1]["status"] = "WARNING"
    assert client.vdisks.get(client.vdisks.create("b", GIB, cluster.vpool_guid)).storagerouter_guid != roomy
    cluster.routers[0]["status"] = "FAILURE"
    assert client.vdisks.get(client.vdisks.create("c", GIB, cluster.vpool_guid)).storagerouter_guid == roomy
    cluster.routers[1]["status"] = "FAILURE"
    with pytest.raises(Unavailable):
        client.vdisks.create("d", GIB, cluster.vpool_guid)
    with pytest.raises(Unavailable):
        client.vdisks.create("e", GIB, cluster.empty_vpool_guid)


def test_the_edge_location_follows_the_vdisk(standin, connect):
    client = connect(standin)
    cluster = standin.cluster
    guid = client.vdisks.create("my disk", GIB, cluster.vpool_guid, cluster.routers[0]["guid"])
    place = client.vdisks.location(client.vdisks.get(guid))
    assert (place.transport, place.host, place.port, place.volume) == ("tcp", "127.0.1.1", 26203, "my_disk")
    cluster.vdisks[guid]["_router"] = cluster.routers[1]["guid"]
    cluster.drivers[1]["cluster_node_config"]["network_server_uri"] = "rdma://127.0.1.7:26210"
    place = client.vdisks.location(client.vdisks.get(guid))
    assert (place.transport, place.host, place.port, place.volume) == ("rdma", "127.0.1.7", 26210, "my_disk")
    vdisk = client.vdisks.get(guid)
    del cluster.drivers[1]
    with pytest.raises(Unavailable):
        client.vdisks.location(vdisk)


def test_a_look_up_by_name_is_one_request_whatever_the_number_of_vdisks(standin, connect):
    client = connect(standin)
    vpool = standin.cluster.vpool_guid
    for number in range(30):
        client.vdisks.create(f"disk{number}", GIB, vpool)
    before = len(standin.requests)
    assert client.vdisks.find("disk17", vpool).name == "disk17"
    assert len(standin.requests) == before + 1


def test_neither_password_nor_token_reaches_the_log(standin, connect, caplog):
    caplog.set_level(logging.DEBUG)
    standin.interfere = drop("after", "/vpools/")
    client = connect(standin)
    client.vpools.list()
    with pytest.raises(AuthenticationError):
        connect(standin, password="other-secret").vpools.list()
    tokens = list(standin.tokens)
    assert tokens
    for secret in ("horse", "other-secret", *tokens):
        assert secret not in caplog.text
    assert "token" in caplog.text, "debug lines of urllib3 were seen"


def test_every_resource_request_carries_what_the_contract_asks_for(standin, connect):
    client = connect(standin)
    guid = client.vdisks.create("a", GIB, standin.cluster.vpool_guid)
    client.snapshots.create(guid, "s")
    client.vdisks.delete(guid)
    for method, path, headers, _ in standin.requests:
        if path in ("/api/", "/api/oauth2/token/"):
            assert headers["accept"] == "application/json"
            continue
        assert headers["accept"] == "application/json; version=*", (method, path)
        assert headers["content-type"] == "application/json"
        assert headers["authorization"].startswith("Bearer ")
        assert path.split("?")[0].endswith("/")


def test_snapshot_retries_end(standin, connect, monkeypatch):
    standin.cluster.syncs_needed = 10**6
    monkeypatch.setattr("openvstorage.client.snapshot._BACKEND_SECONDS", 0.5)
    client = connect(standin)
    guid = client.vdisks.create("a", GIB, standin.cluster.vpool_guid)
    client.snapshots.create(guid, "first")
    with pytest.raises(NotYet):
        client.snapshots.create(guid, "second")


def test_a_redirect_is_not_followed_and_takes_no_token_along(standin, connect, certificate):
    with StandIn(certificate, "127.0.0.2") as elsewhere:

        def hook(when, method, path):
            if when == "before" and path.endswith("/vpools/"):
                error = HttpError(307, "moved")
                error.headers["Location"] = f"https://127.0.0.2:{elsewhere.port}/api/vpools/"
                raise error

        standin.interfere = hook
        with pytest.raises(UnexpectedAnswer, match="307"):
            connect(standin).vpools.list()
        assert elsewhere.requests == []
