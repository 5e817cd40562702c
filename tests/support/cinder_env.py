"""Run tests in an environment that has Cinder, our wheel and nothing else of ours.

python tests/support/cinder_env.py [29|25] [pytest arguments]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support import openstack_env  # noqa: E402


def main(arguments: list[str]) -> int:
    """Give pytest's exit status."""
    release = arguments.pop(0) if arguments and arguments[0].isdigit() else "29"
    name = f"cinder-{release}"
    python = openstack_env.ensure(name)
    openstack_env.install_wheel(python, name)
    tests = arguments if any(not argument.startswith("-") for argument in arguments) else ["tests/cinder", *arguments]
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning", *tests]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
