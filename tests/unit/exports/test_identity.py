from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

from openvstorage.vpool.exports.identity import Identity


def test_we_are_alive():
    identity = Identity.of(os.getpid())
    assert identity.alive()
    assert identity == Identity.of(os.getpid())


@pytest.mark.parametrize("change", [{"start_time": 1}, {"boot_id": "another"}])
def test_another_process_under_our_pid_is_not_us(change):
    assert not dataclasses.replace(Identity.of(os.getpid()), **change).alive()


def test_an_ended_process_is_not_alive_even_before_its_status_is_collected():
    child = subprocess.Popen(["sleep", "100"])
    identity = Identity.of(child.pid)
    assert identity.alive()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not identity.alive()
    assert Identity.of_child(child.pid) == identity
    child.wait()
    assert not identity.alive()
    with pytest.raises(ProcessLookupError):
        Identity.of_child(child.pid)


def test_a_process_may_have_any_name(tmp_path):
    """The name stands in the middle of the line that is read, between brackets."""
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "100"]) as child:
        plain = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(") ")[2].split()[19])
        assert Identity.of(child.pid).start_time == plain
        child.kill()
