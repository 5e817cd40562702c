"""Errors of operations, from where they are raised to the class that the library raises for them."""

from __future__ import annotations

import string
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
from tests.unit.api.conftest import VPOOL, AddVDisk, ConflictingOperations, MakeClient, RecordingOperations

from openvstorage.client import NotYet, Refused, Unavailable, refusals
from openvstorage.client.failures import from_answer, from_task
from openvstorage.contract.codes import ErrorCode
from openvstorage.vpool.backends.base import BackendError, PoolFull
from openvstorage.vpool.exports import errors as exports
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.model.export import Grant, GrantState
from openvstorage.vpool.model.task import Task, TaskStatus
from openvstorage.vpool.operations import errors
from openvstorage.vpool.operations.context import Context
from openvstorage.vpool.operations.journal import Journal
from openvstorage.vpool.operations.operation import Operation, Step
from openvstorage.vpool.operations.tasks import Tasks

OPERATION_ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.OperationError) and kind is not errors.OperationError
]
#: What no task fails of: who waits for one is told, and asks again.
NOT_OF_TASKS = {errors.ServiceStops}


def example(kind: type[Exception]) -> Exception:
    """Make an error of a kind; its attributes are whatever its text names."""
    if kind in (errors.Refused, BackendError):
        return kind("it can not be done")
    template = cast(Any, kind).template if kind is not PoolFull else ""
    return kind(**{field: "x" for _, field, _, _ in string.Formatter().parse(template) if field})


def examples() -> Iterator[tuple[Exception, type[Refused]]]:
    """Give every error that a task can fail of, with what the library makes of it."""
    for kind in OPERATION_ERRORS:
        if kind not in NOT_OF_TASKS:
            yield example(kind), refusals.BY_CODE[kind.code]
    yield PoolFull(), refusals.PoolFull
    yield BackendError("the file is gone"), refusals.BackendFailed
    yield example(exports.LaunchFailed), refusals.DaemonFailed
    yield example(exports.DaemonGone), refusals.DaemonFailed
    yield example(exports.NotFenced), refusals.NotFenced
    yield example(exports.NotCut), refusals.NotFenced
    yield RuntimeError("not told to clients"), refusals.InternalError


def test_every_error_has_a_code_of_its_own() -> None:
    own = [kind.code for kind in OPERATION_ERRORS if kind not in NOT_OF_TASKS]
    assert len(own) == len(set(own))
    others = {PoolFull.code, BackendError.code, exports.ExportsError.code, ErrorCode.INTERNAL_ERROR}
    assert {*own, *others} == set(ErrorCode)


def test_every_code_has_a_class_of_its_own() -> None:
    assert set(refusals.BY_CODE) == set(ErrorCode)
    assert len(set(refusals.BY_CODE.values())) == len(ErrorCode)


class Failing(Operation):
    """Fails under way, and is taken back."""

    type = "failing"
    steps = (Step("work"),)
    error: ClassVar[Exception]

    def locks(self) -> tuple[str, ...]:
        return ()

    async def work(self) -> None:
        raise self.error


class FailingAtOnce(Failing):
    """Is refused before it begins."""

    type = "failing_at_once"

    async def prepare(self) -> None:
        raise self.error


class FailingForward(Failing):
    """Fails under way, and stays in the journal."""

    type = "failing_forward"
    forward = True


@pytest.mark.parametrize(("error", "expected"), list(examples()), ids=lambda value: getattr(value, "__name__", ""))
async def test_the_library_raises_the_class_of_the_error(
    make_client: MakeClient,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    expected: type[Refused],
) -> None:
    monkeypatch.setattr("openvstorage.vpool.operations.journal.FORWARD_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(Failing, "error", error, raising=False)
    context = Context(database, cast(Any, None), cast(Any, None), cast(Any, SimpleNamespace(guid=None)))
    kinds: dict[str, type[Operation]] = {kind.type: kind for kind in (FailingAtOnce, Failing, FailingForward)}
    tasks = Tasks(context, Journal(context, {}), kinds)
    client = await make_client(runner=cast(Any, tasks))
    for kind in kinds:
        task = await tasks.submit(kind, {}, vdisk_guid=None, idempotency=None)
        told = (await client("GET", f"/api/tasks/{task}/?wait=60")).json()
        raised = from_task(task, told["result"], told["error_code"])
        assert (told["status"], type(raised)) == ("FAILURE", expected), kind
        assert raised.description == errors.text_of(error)
    answer = await client("GET", f"/api/tasks/{task}/get/")
    assert type(from_answer(answer.status, answer.json())) is expected


async def test_interrupted_task_says_so(make_client: MakeClient, database: Database) -> None:
    context = Context(database, cast(Any, None), cast(Any, None), cast(Any, SimpleNamespace(guid=None)))
    async with database.write() as session:
        session.add(Task(guid="a" * 36, kind="fail", args={}, status=TaskStatus.STARTED, created_at=1.0))
    tasks = Tasks(context, Journal(context, {}), {})
    await tasks.resume()
    told = (await (await make_client(runner=cast(Any, tasks)))("GET", f"/api/tasks/{'a' * 36}/")).json()
    assert told["error_code"] == "interrupted"
    assert type(from_task("t", told["result"], told["error_code"])) is refusals.Interrupted


async def test_a_task_that_did_not_fail_has_no_code(make_client: MakeClient, operations: RecordingOperations) -> None:
    client = await make_client()
    task = (await client("POST", f"/api/vpools/{VPOOL}/sync_with_reality/")).json()
    assert "error_code" not in (await client("GET", f"/api/tasks/{task}/")).json()
    await operations.finish(task, TaskStatus.SUCCESS, None)
    assert "error_code" not in (await client("GET", f"/api/tasks/{task}/")).json()


class FullPool(RecordingOperations):
    """Has no room for a task."""

    async def submit(self, kind: str, args: dict[str, Any], **_more: Any) -> str:
        raise PoolFull()


async def test_what_is_refused_at_once_has_the_code_too(
    make_client: MakeClient, add_vdisk: AddVDisk, database: Database
) -> None:
    vdisk, clone = await add_vdisk("a"), await add_vdisk("b")
    async with database.write() as session:
        values = {"client": "h", "consumer": "c", "mode": "rw", "identity": "i", "export_name": "e"}
        values["export_guid"] = clone.guid
        session.add(Grant(vdisk_guid=clone.guid, state=GrantState.GRANTED, created_at=0.0, **values))
    usual = await make_client()
    sync = f"/api/vpools/{VPOOL}/sync_with_reality/"
    keyed = {"idempotency-key": "k"}
    answers = {
        refusals.VDiskInUse: await usual("DELETE", f"/api/vdisks/{clone.guid}/"),
        refusals.NotATemplate: await usual("POST", f"/api/vdisks/{vdisk.guid}/delete_vtemplate/"),
        refusals.PoolFull: await (await make_client(runner=FullPool(database)))("POST", sync),
        refusals.BY_CODE[ErrorCode.IDEMPOTENCY_CONFLICT]: await (
            await make_client(runner=ConflictingOperations(database))
        )("POST", sync, headers=keyed),
    }
    assert [type(from_answer(answer.status, answer.json())) for answer in answers.values()] == list(answers)


def test_who_can_be_asked_again_says_so() -> None:
    helps = {code for code, kind in refusals.BY_CODE.items() if kind.retry_helps}
    assert helps == {"group_void", "unfinished", "grant_ending", "interrupted", "daemon_failed"}
    assert all(issubclass(refusals.BY_CODE[code], Unavailable | NotYet) for code in helps - {"daemon_failed"})
