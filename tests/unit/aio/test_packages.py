"""Debian packages come without their services."""

import os
import subprocess
from pathlib import Path

from openvstorage.aio.packages import policy_script, services_of
from openvstorage.aio.supervisor import Identity


def test_units_and_init_scripts_are_found_among_the_files_of_a_package() -> None:
    files = [
        "/lib/systemd/system/epmd.service",
        "/usr/lib/systemd/system/epmd.socket",
        "/lib/systemd/system/epmd.service.d/limits.conf",
        "/etc/init.d/rabbitmq-server",
        "/usr/share/doc/epmd.service",
        "/usr/bin/epmd",
    ]
    assert services_of(files) == (["epmd.service", "epmd.socket"], ["rabbitmq-server"])


def ask(script: str, directory: Path) -> int:
    file = directory / "policy-rc.d"
    file.write_text(script)
    file.chmod(0o755)
    return subprocess.run([file, "rabbitmq-server", "start"], check=False).returncode


def test_no_service_starts_while_the_installing_process_lives(tmp_path: Path) -> None:
    us = Identity.of(os.getpid())
    assert us is not None
    assert ask(policy_script(us, tmp_path / "saved"), tmp_path) == 101


def test_the_policy_means_nothing_once_that_process_is_gone(tmp_path: Path) -> None:
    us = Identity.of(os.getpid())
    assert us is not None
    successor = Identity(us.pid, us.start_time + 1, us.boot_id)
    assert ask(policy_script(successor, tmp_path / "saved"), tmp_path) == 0


def test_a_policy_that_was_there_counts_again_once_that_process_is_gone(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.write_text("#!/bin/sh\n[ $1 = rabbitmq-server ] && exit 104\n")
    saved.chmod(0o755)
    us = Identity.of(os.getpid())
    assert us is not None
    assert ask(policy_script(Identity(us.pid, 1, us.boot_id), saved), tmp_path) == 104
