"""Run tests in an environment that has Nova, our wheel and nothing else of ours.

python tests/support/nova_env.py [34|30] [pytest arguments]     our tests, in tests/nova and tests/brick
python tests/support/nova_env.py [34|30] --upstream [module]    Nova's own tests, with our plug-in loaded first
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
    if arguments[:1] == ["--upstream"]:
        command = [str(python), str(ROOT / "tests/support/nova_upstream.py"), *(arguments[1:] or [UPSTREAM])]
        directory = openstack_env.TOOLS
    else:
        chosen = any(not argument.startswith("-") for argument in arguments)
        tests = arguments if chosen else ["tests/nova", "tests/brick", *arguments]
        # The plug-in of requests-mock would import urllib3 before eventlet has patched what that uses.
        options = ["-p", "no:cacheprovider", "-p", "no:requests_mock", "-W", "ignore::DeprecationWarning"]
        command = [str(python), "-m", "pytest", *options, *tests]
        directory = ROOT
    # Nova's tests patch for eventlet unless told otherwise; its services of this release run native threads.
    native = {"OS_NOVA_DISABLE_EVENTLET_PATCHING": "true"} if int(release) >= 34 else {}
    environment = {**os.environ, **native, "PYTHONPATH": ""}
    return subprocess.run(command, cwd=directory, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
