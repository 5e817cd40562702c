"""The texts and codes of clusters, and the errors they become."""

import pickle

import pytest

from openvstorage.client import errors, refusals
from openvstorage.client.failures import from_answer, from_task


@pytest.mark.parametrize(
    ("text", "kind", "retry_helps"),
    [
        ("A vDisk with this name already exists on vPool myvpool", errors.AlreadyExists, False),
        ("Maximum volume size of 64TiB exceeded", errors.InvalidRequest, False),
        ("Could not find a MDS service", errors.Unavailable, True),
        ("Could not use the given StorageRouter: x", errors.Unavailable, True),
        ("Snapshot x of volume y still not synced to backend", errors.NotYet, True),
        ("Could not find created snapshot in time", errors.NotYet, True),
        ("Previous snapshot did not make it to the backend yet", errors.NotYet, True),
        ("Snapshot x does not belong to vDisk y", errors.NotFound, False),
        ("Snapshot not found.", errors.NotFound, False),
        ("No snapshot found for timestamp 12", errors.NotFound, False),
        ("Snapshot x has 2 volumes cloned from it, cannot remove", errors.HasClones, False),
        ("vDisk x has clones", errors.HasClones, False),
        ("Snapshot in use.", errors.InUse, False),
        ("vDisk x is in use by instance y", errors.InUse, False),
        ("VDisk x is being scrubbed", errors.NotYet, True),
        ("The given vDisk is not a vTemplate", errors.InvalidRequest, False),
        ("Shrinking is not possible", errors.InvalidRequest, False),
        ("Volume x is not running, cannot extend", errors.Unavailable, True),
        ("division by zero", errors.TaskFailed, False),
    ],
)
def test_the_texts_of_failed_tasks(text, kind, retry_helps):
    error = from_task("task", text)
    assert type(error) is kind
    assert error.retry_helps is retry_helps
    assert error.description == text


@pytest.mark.parametrize(
    ("status", "code", "text", "kind"),
    [
        (404, "object_not_found", "gone", errors.NotFound),
        (406, "invalid_data", "name is missing", errors.InvalidRequest),
        (406, "impossible_request", "vDisk has clones", errors.HasClones),
        (406, "impossible_request", "cannot", errors.InvalidRequest),
        (406, "duplicate", "name", errors.AlreadyExists),
        (406, "in_use", "2 grants", errors.InUse),
        (406, "invalid_version", "2..8", errors.VersionNotSupported),
        (426, "", "upgrade", errors.VersionNotSupported),
        (409, "idempotency_conflict", "key", errors.IdempotencyConflict),
        (403, "no_ownership", "not yours", errors.AccessDenied),
        (400, "invalid_data", "x", errors.InvalidRequest),
        (415, "", "", errors.InvalidRequest),
    ],
)
def test_the_codes_of_refused_requests(status, code, text, kind):
    error = from_answer(status, {"error": code, "error_description": text})
    assert type(error) is kind
    assert (error.status, error.code) == (status, code)


def test_every_class_has_a_message_and_survives_pickling():
    examples = [
        errors.ConfigurationError(reason="no address"),
        errors.CertificateError(endpoint="https://a", reason="expired"),
        errors.ServerError(endpoint="https://a", reason="oops", status=500),
        errors.AuthenticationError(endpoint="https://a", who="admin", code="invalid_client", description="no"),
        errors.RateLimited(endpoint="https://a", seconds=90.0),
        errors.UnexpectedAnswer(where="https://a", reason="html"),
        errors.NotSupported(feature="qos", reason="none"),
        errors.HasClones(description="two"),
        errors.TaskFailed(description="two", task_id="t"),
        errors.TaskTimeout(task_id="t", seconds=3.0),
    ]
    for example in examples:
        again = pickle.loads(pickle.dumps(example))
        assert (type(again), str(again), vars(again)) == (type(example), str(example), vars(example))
        assert str(example)
        assert type(example).__name__ in repr(example)


def test_every_class_is_public_and_documented():
    import openvstorage.client as client

    for name in [*errors.__all__, *(name for name in refusals.__all__ if name != "BY_CODE")]:
        kind = getattr(client, name)
        assert issubclass(kind, errors.OpenvStorageError)
        assert kind.__doc__


@pytest.mark.parametrize(("code", "kind"), refusals.BY_CODE.items())
def test_a_code_decides_whatever_the_words_are(code, kind):
    error = from_task("task", "vDisk x has clones and already exists on vPool y", code)
    assert type(error) is kind
    assert (error.code, error.task_id, error.status) == (code, "task", None)
    assert type(from_answer(406, {"error": "impossible_request", "error_code": code})) is kind


@pytest.mark.parametrize(
    ("text", "kind"), [("something new", errors.TaskFailed), ("vDisk x is in use by a new thing", errors.InUse)]
)
def test_a_code_of_a_newer_service_leaves_the_words(text, kind):
    error = from_task("task", text, "of_next_year")
    assert (type(error), error.code) == (kind, "of_next_year")


def test_a_service_from_before_there_were_codes_is_understood():
    error = from_task("task", "Snapshot in use: revoke the grants of x first")
    assert (type(error), error.code) == (errors.InUse, "")
