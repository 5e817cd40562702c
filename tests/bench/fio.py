"""fio against an NBD export."""

from __future__ import annotations

import json
import subprocess
import tempfile
from typing import Any


def run(uri: str, *options: str) -> dict[str, Any]:
    """Run one job.

    :param uri: of the export (NBD URI), without TLS.
    :param options: of fio.
    :returns: fio's report on the job.
    :raises RuntimeError: fio failed.
    """
    with tempfile.NamedTemporaryFile("r") as report:
        command = ["fio", "--name=bench", "--ioengine=nbd", f"--uri={uri}", *options]
        command += ["--output-format=json", f"--output={report.name}"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        text = report.read()
    if result.returncode:
        raise RuntimeError(f"fio failed: {result.stderr.strip() or text.strip()}")
    found: dict[str, Any] = json.loads(text[text.index("{") :])["jobs"][0]  # notes for people come first
    return found


def random_requests(uri: str, kind: str, *, size: int, depth: int, seconds: int) -> float:
    """Make random requests of 4 KiB.

    :param kind: ``read`` or ``write``.
    :param size: bytes of the export that they are spread over.
    :param depth: how many are in flight.
    :returns: requests per second.
    """
    job = run(
        uri,
        f"--rw=rand{kind}",
        "--bs=4k",
        f"--iodepth={depth}",
        f"--size={size}",
        "--time_based",
        f"--runtime={seconds}",
        "--randrepeat=0",
        "--norandommap",
    )
    return float(job[kind]["iops"])


def fill(uri: str, size: int) -> None:
    """Write an export full, in order."""
    run(uri, "--rw=write", "--bs=1M", "--iodepth=4", f"--size={size}", "--end_fsync=1")
