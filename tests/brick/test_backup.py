"""The launcher of cinder-backup: the stock service, its arguments and its configuration, with our connector known.

Needs Cinder: ``python tests/support/cinder_env.py 29 tests/brick``.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("cinder", reason="needs the environment that has Cinder")

# Runs the launcher until the stock service would begin to work.
PROGRAM = """
    import sys
    from importlib import metadata
    from unittest import mock

    (script,) = [e for e in metadata.entry_points(group="console_scripts") if e.name == "openvstorage-cinder-backup"]
    sys.argv[0] = "/usr/bin/openvstorage-cinder-backup"
    main = script.load()
    assert not {"os_brick", "cinder", "requests"} & set(sys.modules), "loaded before Cinder could patch"

    class Reached(BaseException):
        pass

    import cinder.cmd.backup
    with mock.patch("cinder.service.Service.create") as create, mock.patch("cinder.service.serve", side_effect=Reached):
        try:
            main()
        except Reached:
            pass
    assert create.call_args.kwargs["binary"] == "cinder-backup"
    from os_brick.initiator import connector
    from oslo_config import cfg
    made = connector.InitiatorConnector.factory("openvstorage_edge", "sudo")
    print(type(made).__name__, cfg.CONF.prog, "openvstorage.cinder.driver" in sys.modules)
"""


def test_stock_service_runs_with_our_connector(tmp_path: Path) -> None:
    config = tmp_path / "cinder.conf"
    lines = ["[DEFAULT]", f"state_path = {tmp_path}", "transport_url = fake://", "[oslo_concurrency]"]
    config.write_text("\n".join([*lines, f"lock_path = {tmp_path}"]))
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM), "--config-file", str(config)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].split() == ["OpenvStorageEdgeConnector", "cinder-backup", "False"]
