"""Run Tempest's tests of the volume API against the all-in-one, from an environment that has only Tempest.

    python tests/support/tempest_env.py [--state DIR] [regular expressions of tests]

The cloud must be up. The exit status is 0 only if no test failed and every skipped one is named in docs/tempest.md.
What was run stays in var/tempest: the configuration, Tempest's log, and result.json.
"""

from __future__ import annotations

import argparse
import configparser
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from openvstorage.aio.cloud import Cloud
from openvstorage.aio.credentials import REGION
from openvstorage.aio.image import make_image
from openvstorage.aio.paths import Paths, write_private

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.openstack_env import ensure  # noqa: E402  (found by the line above when run as a program)

WORK = ROOT / "var" / "tempest"
SKIPS = ROOT / "docs" / "tempest.md"
TESTS = r"^tempest\.api\.volume\."
_IMAGES = ("tempest", "tempest-alternative")
_RESULT = re.compile(r"^\{\d+\} (?P<test>.+?)(?: \[[\d.]+s\])? \.\.\. (?P<result>ok|FAILED|SKIPPED: .*)$")


def main(arguments: list[str]) -> int:
    """Give the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=Path, default=ROOT / "var" / "aio")
    parser.add_argument("tests", nargs="*", default=[TESTS])
    options = parser.parse_args(arguments)
    cloud = Cloud(Paths.of(options.state), Console())
    if not cloud.programs():
        raise SystemExit("the cloud is not up: run 'openvstorage aio up' first")
    python = ensure("tempest-47")
    images = upload_images(cloud)
    configure(cloud, python, images)
    results = run(python, options.tests)
    return judge(results)


def upload_images(cloud: Cloud) -> list[str]:
    """Have the images that tests use in Glance, and give their ids."""
    glance = cloud.connect().image
    file = make_image(cloud.paths)
    known = {image.name: image.id for image in glance.images() if image.status == "active"}
    for name in _IMAGES:
        if name not in known:
            # Tests run in projects of their own.
            facts = {"disk_format": "raw", "container_format": "bare", "visibility": "public"}
            with file.open("rb") as data:
                known[name] = glance.create_image(name=name, data=data, **facts).id
    return [known[name] for name in _IMAGES]


def settings(cloud: Cloud, images: list[str]) -> dict[str, dict[str, Any]]:
    """Give Tempest's configuration for what the all-in-one has."""
    return {
        "DEFAULT": {"log_file": WORK / "tempest.log"},
        "oslo_concurrency": {"lock_path": WORK / "lock"},
        "auth": {
            "use_dynamic_credentials": True,
            "create_isolated_networks": False,
            "admin_username": "admin",
            "admin_password": cloud.passwords["admin"],
            "admin_project_name": "admin",
            "admin_domain_name": "Default",
        },
        "identity": {
            "uri_v3": cloud.keystone.url,
            "auth_version": "v3",
            "region": REGION,
            "v3_endpoint_type": "public",
        },
        "service_available": {
            **dict.fromkeys(("nova", "neutron", "swift", "horizon"), False),
            **dict.fromkeys(("cinder", "glance"), True),
        },
        "compute": {"image_ref": images[0], "image_ref_alt": images[1]},
        "image": {"disk_formats": "raw,qcow2"},
        "validation": {"run_validation": False},
        "volume": {
            "catalog_type": "block-storage",
            "storage_protocol": "openvstorage_edge",
            "vendor_name": "Open vStorage",
            "volume_size": 1,
            "max_microversion": "latest",
            "manage_volume_ref": "source-name,volume-%s",
            "manage_snapshot_ref": "source-name,snapshot-%s",
            "build_timeout": 300,
        },
        "volume-feature-enabled": {
            "backup": False,
            "multi_backend": False,
            "manage_volume": True,
            "manage_snapshot": True,
        },
    }


def configure(cloud: Cloud, python: Path, images: list[str]) -> None:
    """Write the configurations of Tempest, which holds a password, and of its test runner."""
    WORK.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    for section, values in settings(cloud, images).items():
        lines += [f"[{section}]", *(f"{name} = {value}" for name, value in values.items())]
    write_private(WORK / "tempest.conf", "\n".join(lines) + "\n")
    where = "import tempest, pathlib; print(pathlib.Path(tempest.__file__).parent)"
    package = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    runner = configparser.ConfigParser(interpolation=None)
    # Tests of one class share what its setUpClass makes.
    runner["DEFAULT"] = {
        "test_path": f"{package}/test_discover",
        "top_dir": str(Path(package).parent),
        "group_regex": r"([^\.]*\.)*",
    }
    with (WORK / "stestr.conf").open("w") as stream:
        runner.write(stream)


def run(python: Path, tests: list[str]) -> dict[str, str]:
    """Run tests, show what they say, and give the result of each by its name. Blocks for minutes."""
    stestr = [str(python.with_name("stestr")), "--config", "stestr.conf"]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        "TEMPEST_CONFIG_DIR": str(WORK),
        "TEMPEST_CONFIG": "tempest.conf",
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
    }
    results: dict[str, str] = {}
    command = [*stestr, "run", "--concurrency", "2", *tests]
    with subprocess.Popen(command, cwd=WORK, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            found = _RESULT.match(line.rstrip())
            if found:
                results[found["test"]] = found["result"]
    if process.returncode != 0 and "FAILED" not in results.values():
        raise SystemExit(f"Tempest ended with {process.returncode} and no failed test: see what it printed")
    (WORK / "result.json").write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    return results


def judge(results: dict[str, str]) -> int:
    """Count, name what is skipped and not documented, and give the exit status."""
    failed = [test for test, result in results.items() if result == "FAILED"]
    skipped = {test: result.removeprefix("SKIPPED: ") for test, result in results.items() if "SKIPPED" in result}
    documented = SKIPS.read_text()
    unknown = {test: reason for test, reason in skipped.items() if f"`{short_name(test)}`" not in documented}
    for test, reason in unknown.items():
        print(f"skipped and not named in {SKIPS.relative_to(ROOT)}: {short_name(test)}: {reason}")
    passed = len(results) - len(failed) - len(skipped)
    print(f"{passed} passed, {len(skipped)} skipped ({len(unknown)} of them not documented), {len(failed)} failed")
    return 1 if failed or unknown or not passed else 0


def short_name(test: str) -> str:
    """Give a test's name without the package and without its id; of a whole class, the class."""
    name = re.sub(r"^setUpClass \((.*)\)$", r"\1", test)
    return re.sub(r"\[.*\]$", "", name).removeprefix("tempest.api.volume.")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
