"""Which requests are repeated, where, and after what."""

import pytest
from tests.support.standin29_wire import FakeClock, ScriptedWire, answer, caller, refusal

from openvstorage.client.errors import (
    AccessDenied,
    AnswerLost,
    AuthenticationError,
    CertificateError,
    NotFound,
    RateLimited,
    ServerError,
    UnexpectedAnswer,
    Unreachable,
    VersionNotSupported,
)
from openvstorage.client.wire import Answer

NODE1, NODE2 = "https://node1:443/api", "https://node2:443/api"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_reading_fails_over_and_the_next_call_asks_the_living_address_first(clock):
    wire = ScriptedWire(lambda e, r: AnswerLost(endpoint=e, reason="reset") if e == NODE1 else answer([1]))
    api = caller(wire, clock)
    assert api.get("vpools/") == [1]
    assert api.get("vpools/") == [1]
    assert [endpoint for endpoint, _ in wire.sent] == [NODE1, NODE2, NODE2]
    assert clock.slept == []


@pytest.mark.parametrize("fault", [AnswerLost(endpoint=NODE1, reason="reset"), refusal(500, "internal_server")])
def test_a_change_without_key_is_not_repeated_when_it_may_have_been_done(clock, fault):
    wire = ScriptedWire(lambda e, r: fault)
    with pytest.raises((AnswerLost, ServerError)):
        caller(wire, clock).post("vdisks/", {"name": "a"})
    assert len(wire.sent) == 1
    assert wire.sent[0][1].unrepeatable
    assert "Idempotency-Key" not in wire.sent[0][1].headers


def test_a_change_without_key_is_repeated_when_it_was_never_sent(clock):
    wire = ScriptedWire(lambda e, r: Unreachable(endpoint=e, reason="refused") if e == NODE1 else answer("task"))
    assert caller(wire, clock).post("vdisks/", {"name": "a"}) == "task"
    assert [endpoint for endpoint, _ in wire.sent] == [NODE1, NODE2]


@pytest.mark.parametrize("fault", [AnswerLost(endpoint=NODE1, reason="reset"), refusal(503, "", "starting")])
def test_a_change_with_key_is_repeated_with_the_same_key(clock, fault):
    replies = iter([fault, fault, fault, answer("task")])
    wire = ScriptedWire(lambda e, r: next(replies), ["idempotency_keys"])
    assert caller(wire, clock).post("vdisks/", {"name": "a"}) == "task"
    keys = {request.headers["Idempotency-Key"] for _, request in wire.sent}
    assert len(wire.sent) == 4
    assert len(keys) == 1
    assert len({request.body for _, request in wire.sent}) == 1


def test_once_it_may_have_been_done_nobody_is_told_that_it_was_never_sent(clock):
    replies = iter([AnswerLost(endpoint=NODE1, reason="reset")])
    wire = ScriptedWire(lambda e, r: next(replies, Unreachable(endpoint=e, reason="refused")), ["idempotency_keys"])
    with pytest.raises(AnswerLost, match="reset") as caught:
        caller(wire, clock).post("vdisks/", {"name": "a"})
    assert caught.value.maybe_sent
    assert len(wire.sent) > 2


def test_two_changes_have_two_keys(clock):
    wire = ScriptedWire(lambda e, r: answer("task"), ["idempotency_keys"])
    api = caller(wire, clock)
    api.post("vdisks/", {"name": "a"})
    api.post("vdisks/", {"name": "a"})
    keys = [request.headers["Idempotency-Key"] for _, request in wire.sent]
    assert keys[0] != keys[1]


def test_unreachable_addresses_are_tried_again_until_the_patience_ends(clock):
    wire = ScriptedWire(lambda e, r: Unreachable(endpoint=e, reason="Connection refused"))
    with pytest.raises(Unreachable, match=r"node1.*node2.*Connection refused") as caught:
        caller(wire, clock, patience=10.0).get("vpools/")
    assert not caught.value.maybe_sent
    assert 5.0 < clock.now - 1000.0 <= 10.0
    assert len(wire.sent) >= 6


def test_a_restarting_service_is_waited_for(clock):
    wire = ScriptedWire(
        lambda e, r: answer([]) if clock.now > 1003.0 else Unreachable(endpoint=e, reason="Connection refused")
    )
    assert caller(wire, clock, hosts=1).get("vpools/") == []


def test_an_error_that_repeats_itself_is_asked_once_of_each_address(clock):
    wire = ScriptedWire(lambda e, r: refusal(500, "internal_server", "bad query"))
    with pytest.raises(ServerError, match="bad query") as caught:
        caller(wire, clock).get("vpools/")
    assert caught.value.status == 500
    assert len(wire.sent) == 2
    assert clock.slept == []


def test_untrusted_certificates_are_not_tried_again(clock):
    wire = ScriptedWire(lambda e, r: CertificateError(endpoint=e, reason="self-signed certificate"))
    with pytest.raises(CertificateError):
        caller(wire, clock).get("vpools/")
    assert len(wire.sent) == 2


def test_a_refused_token_is_renewed_once_and_the_call_repeated(clock):
    wire = ScriptedWire(
        lambda e, r: refusal(401, "invalid_token") if r.headers["Authorization"] == "Bearer token1" else answer(7)
    )
    api = caller(wire, clock, hosts=1)
    assert api.get("vpools/") == 7
    assert len(wire.token_requests) == 2
    assert api.get("vpools/") == 7
    assert len(wire.token_requests) == 2


def test_a_second_401_is_an_authentication_error(clock):
    wire = ScriptedWire(lambda e, r: refusal(401, "inactive_user", "User is inactive"))
    with pytest.raises(AuthenticationError, match="inactive_user"):
        caller(wire, clock, hosts=1).get("vpools/")
    assert len(wire.sent) == 2


def test_a_403_renews_an_old_token_once(clock):
    wire = ScriptedWire(lambda e, r: refusal(403, "invalid_roles", "write is missing"))
    api = caller(wire, clock, hosts=1)
    with pytest.raises(AccessDenied, match="write is missing"):
        api.get("vpools/")
    assert len(wire.token_requests) == 1, "a token just issued has the roles of just now"
    clock.now += 600.0
    with pytest.raises(AccessDenied):
        api.get("vpools/")
    assert len(wire.token_requests) == 2


def test_missing_authentication_of_the_framework_is_access_denied(clock):
    body = {"detail": "Authentication credentials were not provided."}
    wire = ScriptedWire(lambda e, r: answer(body, 403))
    with pytest.raises(AccessDenied, match="not provided"):
        caller(wire, clock).get("vpools/")


def test_retry_after_is_honoured(clock):
    replies = iter([answer({}, 429, {"Retry-After": "7"}), answer(1)])
    wire = ScriptedWire(lambda e, r: next(replies))
    assert caller(wire, clock).get("vpools/") == 1
    assert clock.slept == [7.0]


def test_a_lock_out_of_a_minute_without_retry_after_is_waited_out(clock):
    wire = ScriptedWire(
        lambda e, r: answer(1) if clock.now > 1060.0 else refusal(429, "rate_limit_timeout", "60 seconds")
    )
    assert caller(wire, clock).get("vpools/") == 1
    assert clock.slept == sorted(clock.slept), "the pauses grow"
    assert len(clock.slept) < 15


def test_an_endless_rate_limit_is_given_up(clock):
    wire = ScriptedWire(lambda e, r: refusal(429, "rate_limit_timeout"))
    with pytest.raises(RateLimited):
        caller(wire, clock).get("vpools/")
    assert clock.now - 1000.0 <= 90.0


@pytest.mark.parametrize("status", [406, 426])
def test_both_answers_to_an_unknown_version_are_understood(clock, status):
    wire = ScriptedWire(lambda e, r: refusal(status, "invalid_version", "2 <= <version> <= 8"))
    with pytest.raises(VersionNotSupported, match="<= 8"):
        caller(wire, clock).get("vpools/")


def test_a_404_of_another_web_server_is_not_not_found(clock):
    wire = ScriptedWire(lambda e, r: Answer(404, {}, b"<h1>Not Found</h1>"))
    with pytest.raises(UnexpectedAnswer, match="404"):
        caller(wire, clock).get("vdisks/x/")
    wire = ScriptedWire(lambda e, r: answer({"detail": "Not Found"}, 404))
    with pytest.raises(UnexpectedAnswer, match="404"):
        caller(wire, clock).get("vdisks/x/")
    wire = ScriptedWire(lambda e, r: refusal(404, "object_not_found", "no such vDisk"))
    with pytest.raises(NotFound, match="no such vDisk"):
        caller(wire, clock).get("vdisks/x/")


def test_a_redirect_is_not_followed(clock):
    wire = ScriptedWire(lambda e, r: Answer(301, {"Location": "https://elsewhere/"}, b""))
    with pytest.raises(UnexpectedAnswer, match="301"):
        caller(wire, clock).get("vpools/")


def test_features_are_asked_once_in_five_minutes(clock):
    wire = ScriptedWire(lambda e, r: answer("task"), ["qos"])
    api = caller(wire, clock)
    assert api.features() == {"qos"}
    api.post("vdisks/x/set_qos/")
    assert wire.root_requests == 1
    wire.features = ["qos", "grants"]
    clock.now += 301.0
    assert api.features() == {"qos", "grants"}


def test_another_server_with_json_is_not_taken_for_a_cluster_without_extensions(clock):
    wire = ScriptedWire(lambda e, r: answer(None))
    wire.exchange = lambda *_: answer({"hello": "world"})  # type: ignore[method-assign]
    with pytest.raises(UnexpectedAnswer):
        caller(wire, clock).features()
