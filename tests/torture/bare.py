"""Is it the service, or QEMU? A writer against a storage daemon alone: ``python -m tests.torture.bare``.

The image stands under a throttle filter, as the service serves it: QEMU strips the permission to give space back at
the child of a filter, not at the node that is exported.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.torture.connection import Location
from tests.torture.image import Image
from tests.torture.model import DiskModel
from tests.torture.report import Report
from tests.torture.settings import Settings
from tests.torture.writer import Writer

_MIB = 48
_VERIFY_SECONDS = 5.0


def main() -> int:
    """Write for a while, verify every few seconds. :returns: 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.bare", description="A writer against QEMU alone.")
    parser.add_argument("--qemu-dir", type=Path, default=Path(), help="where QEMU's programs are (the PATH)")
    parser.add_argument("--image-options", default="cluster_size=64k", help="of qemu-img create (%(default)s)")
    parser.add_argument("--discard", default="ignore", help="of the image's node: ignore or unmap (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        report = Report(Path(name), {"seed": asked.seed})
        _write(asked, Path(name), report)
        counts = report.figures()["counts"]
    print(f"{report.counted('requests')} requests; wrong blocks: {counts.get('wrong blocks', {})}")
    for violation in report.violations[:10]:
        print(violation.what, *violation.history[-10:], sep="\n    ")
    return 1 if report.violations else 0


def _write(asked: argparse.Namespace, directory: Path, report: Report) -> None:
    image, port = directory / "image.qcow2", _free_port()
    create = [asked.qemu_dir / "qemu-img", "create", "-q", "-f", "qcow2", "-o", asked.image_options]
    subprocess.run([*create, image, f"{_MIB}M"], check=True)
    daemon = subprocess.Popen(_daemon(asked, image, port))
    model = DiskModel(1, Image.empty(_MIB * 2048), keeps_acknowledged=False)
    chance = Settings(asked.seconds, asked.seed, directory).chance("writer")
    writer = Writer("image", model, chance, report, rate=1e6)
    try:
        writer.start()
        writer.enter(lambda _: Location("127.0.0.1", port, "e"))
        until = time.monotonic() + asked.seconds
        while time.monotonic() < until:
            time.sleep(_VERIFY_SECONDS)
            writer.verify().result()
    finally:
        writer.end()
        writer.join(60)
        daemon.kill()
        daemon.wait()


def _daemon(asked: argparse.Namespace, image: Path, port: int) -> list[str]:
    file = {"driver": "file", "filename": str(image), "cache": {"direct": True}, "discard": "unmap"}
    layer = {"driver": "qcow2", "node-name": "layer", "discard": asked.discard, "file": file}
    top = {"driver": "throttle", "node-name": "top", "throttle-group": "none", "file": "layer", "discard": "unmap"}
    words = [str(asked.qemu_dir / "qemu-storage-daemon"), "--object", "throttle-group,id=none"]
    words += ["--blockdev", json.dumps(layer), "--blockdev", json.dumps(top)]
    words += ["--nbd-server", f"addr.type=inet,addr.host=127.0.0.1,addr.port={port}"]
    return [*words, "--export", "nbd,id=e,node-name=top,name=e,writable=on"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
