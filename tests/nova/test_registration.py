"""Registration: in nova-compute with libvirt, and nowhere else; each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import pytest

NATIVE_THREADS = int(metadata.version("nova").split(".")[0]) >= 34
KEY = "openvstorage_edge"
CLASS = "openvstorage.nova.driver.LibvirtOpenvStorageEdgeVolumeDriver"


def run(program: str, *arguments: str, directory: Path) -> str:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(directory)}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=directory, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


# Runs nova-compute's own main() until it would begin to work.
NOVA_COMPUTE = """
    import sys
    sys.argv = ["nova-compute", "--config-file", sys.argv[1]]
    import nova.cmd.compute
    from nova import service

    class Reached(BaseException):
        pass

    def create(*args, **kwargs):
        raise Reached

    service.Service.create = create
    from nova import objects
    objects.Service.enable_min_version_cache = lambda: None
    try:
        nova.cmd.compute.main()
    except Reached:
        pass
    else:
        raise SystemExit("not reached")
"""


def nova_conf(directory: Path, compute_driver: str) -> str:
    path = directory / "nova.conf"
    lines = ["[DEFAULT]", f"compute_driver = {compute_driver}", "debug = true", "transport_url = fake://"]
    path.write_text("\n".join([*lines, f"state_path = {directory}", "[oslo_concurrency]", f"lock_path = {directory}"]))
    return str(path)


@pytest.mark.parametrize("there", [True, False])
def test_host_that_cannot_make_config_drives_is_told_so_at_the_start(tmp_path: Path, there: bool) -> None:
    program = tmp_path / "genisoimage"
    if there:
        program.write_text("#!/bin/sh")
        program.chmod(0o755)
    settings = Path(nova_conf(tmp_path, "libvirt.LibvirtDriver"))
    settings.write_text(settings.read_text().replace("[DEFAULT]", f"[DEFAULT]\nmkisofs_cmd = {program}"))
    said = run(NOVA_COMPUTE, str(settings), directory=tmp_path)
    assert (f"{program} is missing, install it" in said) is not there


def test_nova_compute_with_libvirt_has_the_driver(tmp_path: Path) -> None:
    check = f"""
    from nova.virt.libvirt import driver
    assert driver.VOLUME_DRIVERS[{KEY!r}] == {CLASS!r}
    from oslo_utils import importutils
    assert importutils.import_class({CLASS!r}).__module__ == "openvstorage.nova.driver"
    assert "cinder" not in sys.modules
    assert {NATIVE_THREADS} is not ("eventlet" in sys.modules)
    """
    said = run(NOVA_COMPUTE + check, nova_conf(tmp_path, "libvirt.LibvirtDriver"), directory=tmp_path)
    assert f"Volumes of type {KEY} are attached by {CLASS}" in said


def test_nova_compute_with_another_driver_is_left_alone(tmp_path: Path) -> None:
    check = """
    assert "nova.virt.libvirt.driver" not in sys.modules
    assert "openvstorage.nova.driver" not in sys.modules
    """
    run(NOVA_COMPUTE + check, nova_conf(tmp_path, "fake.FakeDriver"), directory=tmp_path)


def test_failure_is_logged_and_does_not_end_nova_compute(tmp_path: Path) -> None:
    broken = """
    import importlib.abc, sys

    class Refuses(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name == "nova.virt.libvirt.driver":
                raise RuntimeError("libvirt driver is broken")

    sys.meta_path.insert(0, Refuses())
    """
    said = run(broken + NOVA_COMPUTE, nova_conf(tmp_path, "libvirt.LibvirtDriver"), directory=tmp_path)
    assert "The Open vStorage volume driver is not available" in said
    assert "libvirt driver is broken" in said


OTHER_PROCESS = """
    import importlib.abc, sys

    class Refuses(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name.split(".")[0] in sys.argv[1:]:
                raise ModuleNotFoundError(f"No module named {name!r}")

    sys.meta_path.insert(0, Refuses())
    import os_vif
    os_vif.initialize()
    assert "openvstorage" in os_vif._EXT_MANAGER.names()
    assert not {"nova", "cinder", "libvirt"} & set(sys.modules)
    info = os_vif.host_info()
    (ours,) = [plugin for plugin in info.plugin_info if plugin.plugin_name == "openvstorage"]
    assert ours.vif_info == []
"""


@pytest.mark.parametrize("absent", [[], ["nova", "cinder", "libvirt"]])
def test_other_users_of_os_vif_are_left_alone(tmp_path: Path, absent: list[str]) -> None:
    """As neutron-openvswitch-agent loads it, with Nova on the same host and without."""
    run(OTHER_PROCESS, *absent, directory=tmp_path)
