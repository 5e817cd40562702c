"""Waiting for tasks: no delay where the service holds the answer, an end in every case."""

import pytest
from tests.support.standin29_wire import FakeClock, ScriptedWire, answer, caller

from openvstorage.client.errors import AlreadyExists, NotYet, TaskFailed, TaskLost, TaskRevoked, TaskTimeout
from openvstorage.client.task import Tasks


def task(status, result=None):
    return answer({"id": "t", "status": status, "ready": status in ("SUCCESS", "FAILURE"), "result": result})


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def waiting(clock, reply, features=None):
    wire = ScriptedWire(reply, features)
    return Tasks(caller(wire, clock, hosts=1), lost_after=180.0), wire


def test_polling_starts_within_milliseconds_and_slows_down(clock):
    subject, _ = waiting(clock, lambda e, r: task("SUCCESS", 1) if clock.now > 1100.0 else task("STARTED"))
    assert subject.wait("t") == 1
    assert clock.slept[0] < 0.01
    assert clock.slept == sorted(clock.slept)
    assert clock.slept[-1] == 2.0


def test_where_the_service_holds_the_answer_there_is_no_delay(clock):
    replies = iter([task("STARTED"), task("STARTED"), task("SUCCESS", {"a": 1})])

    def reply(endpoint, request):
        clock.now += float(request.params["wait"])
        return next(replies)

    subject, wire = waiting(clock, reply, ["task_wait"])
    assert subject.wait("t") == {"a": 1}
    assert clock.slept == []
    assert wire.holds == [20.0, 20.0, 20.0], "the timeout has to be longer by the time that the answer is held"


def test_a_service_that_does_not_hold_is_not_asked_in_a_tight_loop(clock):
    subject, wire = waiting(clock, lambda e, r: task("STARTED"), ["task_wait"])
    with pytest.raises(TaskTimeout):
        subject.wait("t", timeout=30.0)
    assert len(wire.sent) < 40


def test_the_hold_ends_with_the_deadline(clock):
    def reply(endpoint, request):
        clock.now += float(request.params["wait"]) if "wait" in request.params else 0.0
        return task("STARTED")

    subject, wire = waiting(clock, reply, ["task_wait"])
    with pytest.raises(TaskTimeout, match="t was not ready") as caught:
        subject.wait("t", timeout=25.0)
    assert wire.holds[:2] == [20.0, 5.0]
    assert caught.value.task_id == "t"


def test_a_task_that_stays_pending_is_lost_and_one_that_started_is_not(clock):
    subject, _ = waiting(clock, lambda e, r: task("PENDING"))
    with pytest.raises(TaskLost):
        subject.wait("t", timeout=600.0)
    assert 180.0 <= clock.now - 1000.0 < 185.0
    subject, _ = waiting(clock, lambda e, r: task("STARTED"))
    with pytest.raises(TaskTimeout):
        subject.wait("t", timeout=600.0)


def test_a_revoked_task_ends_the_waiting(clock):
    subject, _ = waiting(clock, lambda e, r: task("REVOKED"))
    with pytest.raises(TaskRevoked):
        subject.wait("t")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("A vDisk with devicename /a.raw already exists on vPool p", AlreadyExists),
        ("Snapshot 1 did not make it to the backend yet", NotYet),
        ("something new", TaskFailed),
        (0, TaskFailed),
        (None, TaskFailed),
    ],
)
def test_a_failed_task_raises_what_its_words_stand_for(clock, text, kind):
    subject, _ = waiting(clock, lambda e, r: task("FAILURE", text))
    with pytest.raises(kind) as caught:
        subject.wait("t")
    assert caught.value.task_id == "t"
    assert str(text) in str(caught.value)
