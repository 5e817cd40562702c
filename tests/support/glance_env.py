"""Run tests in an environment that has Glance's stores with what its cinder store needs, our wheel and nothing else.

python tests/support/glance_env.py [pytest arguments]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support import openstack_env  # noqa: E402

_NAME = "glance-33"


def main(arguments: list[str]) -> int:
    """Give pytest's exit status."""
    python = openstack_env.ensure(_NAME)
    openstack_env.install_wheel(python, _NAME)
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "-W", "ignore", "tests/glance", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
