"""``python -m tests.power``: cut a pool's power at many instants, and look what is left. See docs/power-loss.md."""

from __future__ import annotations

import argparse
import collections
import ctypes
import dataclasses
import fcntl
import json
import logging
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.power.campaign import Campaign, Cut
from tests.power.device import CanNotRun, demand_all
from tests.power.history import Promise

_NEW_NET, _NEW_MOUNTS = 0x40000000, 0x00020000
#: SIOCSIFFLAGS and IFF_UP of Linux.
_SET_FLAGS, _UP = 0x8914, 1


def main() -> int:
    """:returns: the exit status: 0 nothing was wrong, 1 something was, 2 this machine does not allow it."""
    asked = _arguments()
    logging.basicConfig(level=logging.ERROR)  # restarts of the service are meant
    # Devices are taken away whatever ends us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        demand_all()
        _alone()
        asked.output.mkdir(parents=True, exist_ok=True)
        work = asked.again or Path(tempfile.mkdtemp(prefix="work-", dir=asked.output))
        try:
            return _run(asked, work.resolve())
        finally:
            if not asked.keep and not asked.again:
                shutil.rmtree(work)
    except CanNotRun as error:
        print(f"power: {error}", file=sys.stderr)
        return 2


def _run(asked: argparse.Namespace, work: Path) -> int:
    expected = Promise(asked.expect) if asked.expect else None
    durabilities = [Promise(asked.durability)] if asked.durability else list(Promise)
    campaign = Campaign(work, asked.qemu_dir, asked.seed, durabilities, asked.file_system)
    done: dict[str, int] = {}
    if asked.again:
        campaign.recall()
    else:
        done = campaign.record(asked.operations)
    print(f"recorded: {campaign.about()}; {', '.join(f'{count} {what}' for what, count in sorted(done.items()))}")
    cuts: list[Cut] = []
    for cut in campaign.cuts(asked.instants, expected, forget=asked.forget_flushes):
        cuts.append(cut)
        print(cut.line(), flush=True)
        if cut.findings.violations and asked.stop:
            break
    wrong = sum(bool(cut.findings.violations) for cut in cuts)
    totals = collections.Counter[str]()
    for cut in cuts:
        totals.update({key: value for key, value in dataclasses.asdict(cut.findings).items() if isinstance(value, int)})
    print(f"{len(cuts)} instants, {wrong} with violations; {dict(totals)}; seed {asked.seed}")
    report: dict[str, object] = {"arguments": {key: str(value) for key, value in vars(asked).items()}, "done": done}
    report |= {"about": campaign.about(), "cuts": [cut.as_json() for cut in cuts], "totals": dict(totals)}
    path = asked.output / f"power-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(f"kept in {path}")
    return 1 if wrong else 0


def _alone() -> None:
    """Go on in namespaces of our own: ports are free there, /run has no socket of the same pool, mounts end with us."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NET | _NEW_MOUNTS):
        reason = os.strerror(ctypes.get_errno())
        raise CanNotRun(f"namespaces of its own are not allowed ({reason}): run this with CAP_SYS_ADMIN")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.power", description=__doc__)
    parser.add_argument("--instants", type=int, default=50)
    parser.add_argument("--operations", type=int, default=150, help="done before, and beside; default: %(default)s")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 16))
    parser.add_argument("--durability", choices=[promise.value for promise in Promise], help="default: some of each")
    parser.add_argument(
        "--expect", choices=[promise.value for promise in Promise], help="another promise, to see it fail"
    )
    parser.add_argument(
        "--forget-flushes", type=int, default=0, help="the device forgets its last flushes, to see it fail"
    )
    parser.add_argument("--file-system", choices=["ext4", "xfs"], default="ext4")
    parser.add_argument("--qemu-dir", type=Path, help="where QEMU's programs are; default: the PATH")
    parser.add_argument("--output", type=Path, default=Path("var/power"))
    parser.add_argument("--stop", action="store_true", help="end with the first violation")
    parser.add_argument("--keep", action="store_true", help="keep the recording, in a directory work-*")
    parser.add_argument("--again", type=Path, help="cut the power of a recording that was kept, in this directory")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
