"""Horizon: what a person does in a browser reaches Cinder and the vPool.

The browser is Debian's Chromium. Pictures of what it showed are kept in var/horizon.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import COMMAND, ROOT, AllInOne
from tests.support.dashboard import Dashboard, browser

from openvstorage.aio.shell import OpenStackShell, ShellError
from openvstorage.client import Client

pytestmark = pytest.mark.timeout(900)


def admin_password(all_in_one: AllInOne) -> str:
    """Look it up where ``status`` says that it is."""
    (file,) = re.findall(r"password: OS_PASSWORD in (\S+)", all_in_one.run("status"))
    (password,) = re.findall(r"^export OS_PASSWORD=(\S+)$", Path(file).read_text(), re.M)
    return str(password)


@pytest.fixture
def dashboard(all_in_one: AllInOne, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    # A proxy of this machine would be asked for the browser's driver, and for Horizon.
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    told = all_in_one.run("status")
    (url,) = re.findall(r"^Horizon: (http://127\.0\.0\.1:\d+/) ", told, re.M)
    port = url.rstrip("/").rpartition(":")[2]
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in told
    with browser(url, tmp_path / "profile", ROOT / "var" / "horizon") as window:
        yield window


@pytest.fixture
def openstack(all_in_one: AllInOne) -> Iterator[OpenStackShell]:
    state = all_in_one.state
    with OpenStackShell(str(state / "venv" / "bin" / "openstack"), state / "clouds.yaml", "aio") as shell:
        yield shell


@pytest.fixture
def vpool(all_in_one: AllInOne) -> Iterator[Client]:
    words = [str(COMMAND), "status", "--data", str(all_in_one.state / "data" / "vpool"), "--json"]
    status = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    with Client.from_status(status) as client:
        yield client


def test_a_wrong_password_is_refused_on_the_page(dashboard: Dashboard) -> None:
    dashboard.log_in("admin", "wrong")
    assert dashboard.alerts() == ["Invalid credentials."]
    assert dashboard.path == "auth/login/"
    dashboard.open("project/volumes/")
    assert dashboard.path.startswith("auth/login/")


def test_a_volume_is_made_snapshotted_and_deleted_in_the_browser(
    all_in_one: AllInOne, dashboard: Dashboard, openstack: OpenStackShell, vpool: Client
) -> None:
    dashboard.log_in("admin", admin_password(all_in_one))
    assert dashboard.title in {"Volumes - OpenStack Dashboard", "Overview - OpenStack Dashboard"}
    assert dashboard.alerts() == []
    dashboard.open("project/volumes/")

    volume = dashboard.create_volume("first", "myvpool01", 2)
    shown = openstack.ask("volume", "show", volume)
    assert (shown["name"], shown["type"], shown["size"]) == ("first", "myvpool01", 2)
    (guid,) = (vpools.guid for vpools in vpool.vpools.list())
    vdisk = vpool.vdisks.find(f"volume-{volume}", guid)
    assert vdisk is not None
    assert vdisk.size == 2 * 1024**3
    assert dashboard.alerts() == []
    dashboard.picture("volumes")

    snapshot = dashboard.snapshot_volume(volume, "as-it-was")
    assert openstack.ask("volume", "snapshot", "show", snapshot)["volume_id"] == volume
    assert [snapshot in found.label for found in vpool.snapshots.list(vdisk.guid)] == [True]
    dashboard.picture("snapshots")

    dashboard.delete("volume_snapshots", snapshot)
    assert vpool.snapshots.list(vdisk.guid) == []
    dashboard.open("project/volumes/")
    dashboard.delete("volumes", volume)
    assert vpool.vdisks.find(f"volume-{volume}", guid) is None
    with pytest.raises(ShellError, match=f"No Volume found for {volume}"):
        openstack.ask("volume", "show", volume)
