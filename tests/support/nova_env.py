"""Run tests in an environment that has Nova, our wheel and nothing else of ours.

python tests/support/nova_env.py [34|30] [pytest options]       all of it: our tests, in tests/nova and tests/brick,
                                                                then Nova's own, with our plug-in loaded first
python tests/support/nova_env.py [34|30] [pytest arguments]     those tests of ours
python tests/support/nova_env.py [34|30] --upstream [module]    Nova's own tests only
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support import openstack_env  # noqa: E402

UPSTREAM = "nova.tests.unit.virt.libvirt.volume"


def main(arguments: list[str]) -> int:
    """Give the exit status of the tests."""
    release = arguments.pop(0) if arguments and arguments[0].isdigit() else "34"
    name = f"nova-{release}"
    python = openstack_env.ensure(name)
    openstack_env.install_wheel(python, name)
    # Nova's tests patch for eventlet unless told otherwise; its services of this release run native threads.
    native = {"OS_NOVA_DISABLE_EVENTLET_PATCHING": "true"} if int(release) >= 34 else {}
    environment = {**os.environ, **native, "PYTHONPATH": ""}

    def run(directory: Path, *words: str) -> int:
        return subprocess.run([str(python), *words], cwd=directory, env=environment, check=False).returncode

    upstream = [str(ROOT / "tests/support/nova_upstream.py")]
    if arguments[:1] == ["--upstream"]:
        return run(openstack_env.TOOLS, *upstream, *(arguments[1:] or [UPSTREAM]))
    # The plug-in of requests-mock would import urllib3 before eventlet has patched what that uses.
    options = ["-p", "no:cacheprovider", "-p", "no:requests_mock", "-W", "ignore::DeprecationWarning", *arguments]
    if any((ROOT / argument.partition("::")[0]).exists() for argument in arguments):
        return run(ROOT, "-m", "pytest", *options)
    ours = run(ROOT, "-m", "pytest", "tests/nova", "tests/brick", *options)
    return run(openstack_env.TOOLS, *upstream, UPSTREAM) or ours


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
