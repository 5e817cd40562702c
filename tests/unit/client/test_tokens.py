"""Tokens: few of them, never an expired one, and wrong credentials said clearly."""

import threading

import pytest
from tests.support.patience import PATIENCE
from tests.support.standin29_wire import FakeClock, ScriptedWire, answer, caller, refusal

from openvstorage.client.credentials import ClientCredentials, PasswordCredentials
from openvstorage.client.errors import AnswerLost, AuthenticationError, RateLimited, UnexpectedAnswer, Unreachable
from openvstorage.client.tokens import TokenCache, Tokens
from openvstorage.client.wire import Answer

NODE1, NODE2 = "https://node1:443/api", "https://node2:443/api"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def tokens(wire, clock, credentials=None, cache=None) -> Tokens:
    return Tokens(wire, credentials or PasswordCredentials("admin", "secret"), clock, cache or TokenCache())


def test_one_token_serves_many_calls_until_a_minute_before_it_expires(clock):
    wire = ScriptedWire(lambda e, r: answer())
    subject = tokens(wire, clock)
    first = subject.get(NODE1)
    clock.now += 3600.0 - 61.0
    assert subject.get(NODE1) is first
    clock.now += 2.0
    assert subject.get(NODE1).text != first.text
    assert len(wire.token_requests) == 2


def test_each_address_has_its_own_token(clock):
    wire = ScriptedWire(lambda e, r: answer())
    subject = tokens(wire, clock)
    assert subject.get(NODE1).text != subject.get(NODE2).text
    assert wire.token_requests == [NODE1, NODE2]


def test_two_clients_with_the_same_credentials_share_a_token_and_others_do_not(clock):
    wire = ScriptedWire(lambda e, r: answer())
    cache = TokenCache()
    same = [tokens(wire, clock, cache=cache).get(NODE1).text for _ in range(3)]
    assert len(set(same)) == 1
    other = tokens(wire, clock, PasswordCredentials("admin", "changed"), cache).get(NODE1).text
    assert other != same[0]


def test_twenty_threads_cause_one_token_request(clock):
    release = threading.Event()
    wire = ScriptedWire(lambda e, r: answer())
    granted = wire.token_reply

    def slow(endpoint):
        release.wait(PATIENCE)
        return granted(endpoint)

    wire.token_reply = slow
    subject = tokens(wire, clock)
    threads = [threading.Thread(target=subject.get, args=(NODE1,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    release.set()
    for thread in threads:
        thread.join()
    assert len(wire.token_requests) == 1


def test_dropping_an_old_token_keeps_the_new_one(clock):
    wire = ScriptedWire(lambda e, r: answer())
    subject = tokens(wire, clock)
    old = subject.get(NODE1)
    subject.drop(NODE1, old)
    new = subject.get(NODE1)
    subject.drop(NODE1, old)
    assert subject.get(NODE1) is new


@pytest.mark.parametrize("code", ["invalid_client", "inactive_user", "unauthorized_client", "invalid_grant"])
def test_refused_credentials_are_named_without_the_secret(clock, code):
    wire = ScriptedWire(lambda e, r: answer())
    wire.token_reply = lambda endpoint: refusal(400, code, "Invalid username or password")
    with pytest.raises(AuthenticationError, match=f"admin.*{code}") as caught:
        caller(wire, clock).get("vpools/")
    assert "secret" not in repr(caught.value)
    assert len(wire.token_requests) == 1, "another address would say the same, and count against the rate limit"


def test_a_token_request_without_answer_leaves_the_own_request_unsent(clock):
    wire = ScriptedWire(lambda e, r: answer("task"))
    granted = wire.token_reply
    wire.token_reply = lambda e: AnswerLost(endpoint=e, reason="timed out") if e == NODE1 else granted(e)
    assert caller(wire, clock).post("vdisks/", {}) == "task"
    assert [endpoint for endpoint, _ in wire.sent] == [NODE2]


def test_a_failing_token_endpoint_is_unreachable(clock):
    wire = ScriptedWire(lambda e, r: answer())
    wire.token_reply = lambda endpoint: refusal(502, "", "")
    with pytest.raises(Unreachable, match="502"):
        tokens(wire, clock).get(NODE1)


def test_the_lock_out_of_the_token_endpoint_is_waited_out(clock):
    wire = ScriptedWire(lambda e, r: answer())
    granted = wire.token_reply
    wire.token_reply = lambda e: granted(e) if clock.now >= 1060.0 else refusal(429, "rate_limit_timeout")
    assert tokens(wire, clock).get(NODE1).text
    wire.token_reply = lambda e: refusal(429, "rate_limit_timeout")
    with pytest.raises(RateLimited):
        tokens(wire, clock).get(NODE1)


def test_a_web_server_that_is_no_cluster_is_named_so(clock):
    wire = ScriptedWire(lambda e, r: answer())
    wire.token_reply = lambda endpoint: Answer(404, {}, b"<html>")
    with pytest.raises(UnexpectedAnswer, match="404"):
        tokens(wire, clock).get(NODE1)


def test_client_credentials_go_as_basic_authorisation_with_colons_in_the_secret():
    credentials = ClientCredentials("id", "a:b")
    assert credentials.form() == {"grant_type": "client_credentials"}
    assert credentials.headers() == {"Authorization": "Basic aWQ6YTpi"}


def test_credentials_do_not_show_their_secret():
    for credentials in (PasswordCredentials("admin", "hunter2"), ClientCredentials("id", "hunter2")):
        assert "hunter2" not in repr(credentials)
        assert "hunter2" not in str(credentials)
        assert "hunter2" not in credentials.fingerprint()
