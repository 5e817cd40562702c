"""Write the pages of docs/ that are made from the code: the REST API, the options.

python -m tests.support.reference_pages

The driver's options can be asked only where Cinder is, so the environment of `make test-cinder` is made for that.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support import openstack_env

from openvstorage import reference
from openvstorage.vpool.api import reference as rest_api

DOCS = Path(__file__).resolve().parents[2] / "docs"
CINDER = "cinder-29"

_CONFIGURATION = """\
# Configuration

Made by `make docs` from the code. How to use it all: [install.md](install.md), [operation.md](operation.md).
"""


def driver_options(python: Path) -> str:
    """Give the part about the Cinder driver, asked of an environment with Cinder and our wheel."""
    return _output(python, "-W", "ignore", "-m", "openvstorage.cinder.reference")


def sample(python: Path) -> str:
    """Give the sample file, likewise."""
    return _output(python.with_name("oslo-config-generator"), "--namespace", "openvstorage.cinder")


def configuration(driver: str) -> str:
    """Give the whole page, of which this is the driver's part."""
    return "\n".join([_CONFIGURATION, driver, reference.page()])


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout


def main() -> None:
    python = openstack_env.ensure(CINDER)
    openstack_env.install_wheel(python, CINDER)
    (DOCS / "rest-api.md").write_text(rest_api.page(rest_api.document()))
    (DOCS / "configuration.md").write_text(configuration(driver_options(python)))
    (DOCS / "openvstorage.conf.sample").write_text(sample(python))


if __name__ == "__main__":
    main()
