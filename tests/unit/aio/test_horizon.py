"""Horizon's settings: what they say, and who can read them."""

import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

from openvstorage.aio.environment import Environment
from openvstorage.aio.horizon import Horizon
from openvstorage.aio.paths import Paths
from openvstorage.aio.service import Place
from openvstorage.aio.supervisor import Supervisor


@pytest.fixture
def horizon(tmp_path: Path) -> Horizon:
    paths = Paths.of(tmp_path / "state")
    paths.create()
    return Horizon(
        Place(paths, Supervisor(paths), Environment(paths)),
        port=12345,
        auth_url="http://127.0.0.1:5000/v3",
        secret_key="what-it-signs-with",
    )


def test_settings_are_read_by_nobody_else_and_forgive_nothing(
    horizon: Horizon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    horizon.configure()
    file = tmp_path / "state" / "etc" / "horizon" / "local" / "local_settings.py"
    assert file.stat().st_mode & 0o777 == 0o600
    # What Horizon has when it imports them.
    released = ModuleType("openstack_dashboard.settings")
    released.__dict__["HORIZON_CONFIG"] = {"user_home": "its.own", "help_url": "kept"}
    monkeypatch.setitem(sys.modules, "openstack_dashboard", ModuleType("openstack_dashboard"))
    monkeypatch.setitem(sys.modules, "openstack_dashboard.settings", released)
    settings = runpy.run_path(str(file))
    assert settings["DEBUG"] is False
    assert settings["ALLOWED_HOSTS"] == ["127.0.0.1", "localhost"]
    assert settings["SECRET_KEY"] == "what-it-signs-with"
    assert settings["OPENSTACK_KEYSTONE_URL"] == "http://127.0.0.1:5000/v3"
    assert settings["HORIZON_CONFIG"]["help_url"] == "kept"
    assert settings["HORIZON_CONFIG"]["user_home"].startswith("openvstorage.")


def test_a_new_key_is_a_new_version(horizon: Horizon, tmp_path: Path) -> None:
    horizon.configure()
    before = horizon.settings_version
    horizon.configure()
    assert horizon.settings_version == before
    file = tmp_path / "state" / "etc" / "horizon" / "local" / "local_settings.py"
    file.write_text(file.read_text().replace("what-it-signs-with", "something-else"))
    assert horizon.settings_version != before
