"""Command: run a program to its end, with its output in a log file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from openvstorage.aio.errors import CommandFailed
from openvstorage.aio.supervisor import base_environment

__all__ = ["network_environment", "run"]


def network_environment() -> dict[str, str]:
    """Return the caller's whole environment, made fit for unattended downloads: its proxies and mirrors count there."""
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}


def run(
    what: str,
    argv: Sequence[str | Path],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str = "",
) -> str:
    """Run a command and return what it printed. Blocks until it ends.

    :param what: names it in the error ("the installation of Debian packages").
    :param log: gets its output appended, both streams.
    :param environment: the whole environment; :func:`base_environment` unless told.
    :param stdin: fed to it; secrets go this way, never on the command line.
    Raises CommandFailed when it exits with another status than 0, OSError when it cannot be executed.
    """
    result = subprocess.run(
        [str(word) for word in argv],
        env=dict(base_environment() if environment is None else environment),
        cwd=cwd,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    with log.open("a") as stream:
        stream.write(result.stdout)
    if result.returncode != 0:
        raise CommandFailed(what, result.returncode, log)
    return result.stdout
