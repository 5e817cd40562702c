"""The supervisor with real processes: what is ours is found and ended, what is not is left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.patience import PATIENCE

from openvstorage.aio.errors import ProgramFailed
from openvstorage.aio.paths import Paths
from openvstorage.aio.supervisor import Identity, Program, Supervisor, end_processes, processes_running

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")
# Ignores the polite signal, and says when it does.
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
)
# Has a child of its own, in a session of its own, whose pid it prints.
PARENT = (
    sys.executable,
    "-c",
    "import subprocess, sys, time\n"
    "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(600)",
)

# Asked to end, writes one file and goes on until there is another.
ENDS_AFTER = """
import signal, sys, time
from pathlib import Path

def end(*_):
    Path(sys.argv[1]).touch()
    while not Path(sys.argv[2]).exists():
        time.sleep(0.01)
    print("done", flush=True)
    sys.exit()

signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""
# Asked to end, tells whether a process is still there.
ENDS_WITH = """
import os, signal, sys, time

def end(*_):
    print("with company" if os.path.exists("/proc/" + sys.argv[1]) else "alone", flush=True)
    sys.exit()

signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    paths = Paths.of(tmp_path / "state")
    paths.create()
    supervisor = Supervisor(paths)
    yield supervisor
    supervisor.stop_all()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def printed(supervisor: Supervisor, name: str) -> str:
    until(lambda: supervisor.log(name).exists() and supervisor.log(name).read_text().endswith("\n"))
    return supervisor.log(name).read_text().strip()


def running(supervisor: Supervisor, name: str) -> Identity:
    identity = supervisor.identity(name)
    assert identity is not None
    # Between exec and the first instruction a process has no environment to be known by.
    until(lambda: Path(f"/proc/{identity.pid}/environ").read_bytes() != b"")
    return identity


def test_start_stop_and_start_again(supervisor: Supervisor) -> None:
    program = Program("worker", SLEEP)
    assert supervisor.start(program)
    first = running(supervisor, "worker")
    assert not supervisor.start(program)
    assert running(supervisor, "worker") == first
    assert supervisor.stop("worker")
    assert not first.alive()
    assert supervisor.names() == []
    assert not supervisor.stop("worker")
    assert supervisor.start(program)
    assert running(supervisor, "worker") != first


def test_another_command_finds_what_one_command_started(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(Program("worker", SLEEP))
    other = Supervisor(Paths.of(tmp_path / "state"))
    assert other.identity("worker") == running(supervisor, "worker")
    assert not other.start(Program("worker", SLEEP))


def test_a_changed_configuration_restarts_the_program(supervisor: Supervisor, tmp_path: Path) -> None:
    file = tmp_path / "worker.conf"
    file.write_text("one")
    program = Program("worker", SLEEP, files=(file,))
    assert supervisor.started("worker") is None
    supervisor.start(program)
    first, began = running(supervisor, "worker"), supervisor.started("worker")
    file.write_text("two")
    assert supervisor.start(program)
    assert not first.alive()
    assert running(supervisor, "worker") != first
    again = supervisor.started("worker")
    assert began is not None
    assert again is not None
    assert began < again <= datetime.now(UTC)


def test_a_new_version_restarts_the_program(supervisor: Supervisor) -> None:
    supervisor.start(Program("worker", SLEEP, version="1"))
    first = running(supervisor, "worker")
    assert supervisor.start(Program("worker", SLEEP, version="2"))
    assert not first.alive()


def test_a_program_that_ignores_the_signal_is_killed(supervisor: Supervisor) -> None:
    supervisor.start(Program("deaf", STUBBORN, stop_seconds=0.3))
    identity = running(supervisor, "deaf")
    printed(supervisor, "deaf")
    assert supervisor.stop("deaf")
    assert not identity.alive()


def test_what_a_program_started_ends_with_it(supervisor: Supervisor) -> None:
    supervisor.start(Program("parent", PARENT))
    child = Identity.of(int(printed(supervisor, "parent")))
    assert child is not None
    supervisor.stop("parent")
    assert not child.alive()


def test_children_that_outlive_their_program_end_with_everything(supervisor: Supervisor) -> None:
    supervisor.start(Program("parent", PARENT, children_outlive=True))
    child = Identity.of(int(printed(supervisor, "parent")))
    assert child is not None
    supervisor.stop("parent")
    assert child.alive()
    supervisor.stop_all()
    assert not child.alive()


def test_a_record_of_a_pid_that_a_stranger_has_now_ends_nobody(supervisor: Supervisor, tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        supervisor.start(Program("worker", SLEEP))
        ours = running(supervisor, "worker")
        record = tmp_path / "state" / "run" / "worker.json"
        facts = json.loads(record.read_text())
        facts["identity"]["pid"] = stranger.pid
        # Some other time than either was started at.
        facts["identity"]["start_time"] -= 1000
        record.write_text(json.dumps(facts))
        assert supervisor.identity("worker") is None
        supervisor.stop("worker")
        assert stranger.poll() is None
        # Ours, which the record has lost, is found by its mark.
        assert not ours.alive()
    finally:
        stranger.kill()
        stranger.wait()


def test_a_record_of_another_boot_ends_nobody(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(Program("worker", SLEEP))
    record = tmp_path / "state" / "run" / "worker.json"
    facts = json.loads(record.read_text())
    facts["identity"]["boot_id"] = "another"
    record.write_text(json.dumps(facts))
    assert supervisor.identity("worker") is None


def test_a_process_that_a_killed_command_left_unrecorded_is_replaced(supervisor: Supervisor, tmp_path: Path) -> None:
    program = Program("worker", SLEEP, children_outlive=True)
    supervisor.start(program)
    lost = running(supervisor, "worker")
    (tmp_path / "state" / "run" / "worker.json").unlink()
    assert supervisor.start(program)
    assert not lost.alive()


def test_an_early_death_is_reported_with_the_end_of_the_log(supervisor: Supervisor) -> None:
    supervisor.start(Program("broken", (sys.executable, "-c", "raise SystemExit('no such database')")))
    with pytest.raises(ProgramFailed, match="ended before it was ready") as caught:
        supervisor.wait_ready("broken", lambda: False)
    assert "no such database" in str(caught.value)
    assert str(supervisor.log("broken")) in str(caught.value)


def test_a_program_that_never_gets_ready_is_reported(supervisor: Supervisor) -> None:
    supervisor.start(Program("slow", SLEEP))
    with pytest.raises(ProgramFailed, match="was not ready"):
        supervisor.wait_ready("slow", lambda: False, seconds=0.2)


def test_a_wait_that_is_given_up_ends_and_the_program_goes_on(supervisor: Supervisor) -> None:
    supervisor.start(Program("slow", SLEEP))
    supervisor.give_up()
    with pytest.raises(ProgramFailed, match="something else failed"):
        supervisor.wait_ready("slow", lambda: False)
    assert supervisor.identity("slow") is not None


def test_programs_of_a_stage_are_stopped_together(supervisor: Supervisor, tmp_path: Path) -> None:
    for name, other in (("one", "other"), ("other", "one")):
        # Ends only when the other one has been asked to end, too.
        argv = (sys.executable, "-c", ENDS_AFTER, str(tmp_path / name), str(tmp_path / other))
        supervisor.start(Program(name, argv, stop_seconds=60))
        until(lambda name=name: "ready" in printed(supervisor, name))
    assert sorted(supervisor.stop_all()) == ["one", "other"]
    assert [printed(supervisor, name).split()[-1] for name in ("one", "other")] == ["done", "done"]


def test_what_others_need_is_stopped_after_them(supervisor: Supervisor) -> None:
    supervisor.start(Program("service", STUBBORN, stop_seconds=1))
    until(lambda: "deaf" in printed(supervisor, "service"))
    # It was started last, as after a restart.
    argv = (sys.executable, "-c", ENDS_WITH, str(running(supervisor, "service").pid))
    supervisor.start(Program("database", argv, stop_stage=1))
    until(lambda: "ready" in printed(supervisor, "database"))
    assert supervisor.stop_all() == ["service", "database"]
    assert printed(supervisor, "database").split() == ["ready", "alone"]


def test_one_stage_can_be_stopped_without_the_others(supervisor: Supervisor) -> None:
    supervisor.start(Program("database", SLEEP, stop_stage=1))
    supervisor.start(Program("service", SLEEP))
    assert supervisor.stop_stage(0) == ["service"]
    assert supervisor.names() == ["database"]
    assert running(supervisor, "database").alive()


def test_children_get_a_clean_environment(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_PASSWORD", "somebody else's")
    monkeypatch.setenv("http_proxy", "http://proxy.invalid")
    supervisor.start(Program("worker", SLEEP))
    environment = Path(f"/proc/{running(supervisor, 'worker').pid}/environ").read_bytes()
    assert b"OS_PASSWORD" not in environment
    assert b"http_proxy" not in environment
    assert b"no_proxy=127.0.0.1" in environment


def test_processes_are_found_by_their_command_line_and_ended() -> None:
    words = [*SLEEP, "found by this word"]
    with subprocess.Popen(words) as wanted, subprocess.Popen(SLEEP) as stranger:
        try:
            found = processes_running(lambda line: line == words)
            assert [each.pid for each in found] == [wanted.pid]
            end_processes(found)
            assert not found[0].alive()
            assert stranger.poll() is None
        finally:
            stranger.kill()
            wanted.kill()


def test_a_zombie_counts_as_gone() -> None:
    child = subprocess.Popen(["sleep", "600"])
    identity = Identity.of(child.pid)
    assert identity is not None
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: not identity.alive())
    child.wait()
