"""Glance finds our connector by itself, and loses nothing where it cannot be had."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.support.installed_files import differences

# As glance-api does at its start, with many stores and with one.
START = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(message)s", stream=sys.stdout)
import glance_store
from glance_store import backend, multi_backend
from oslo_config import cfg
conf = cfg.ConfigOpts()
conf.register_opt(cfg.DictOpt("enabled_backends", default={"volumes": "cinder"}))
conf([])
"""
TABLE = "from glance_store._drivers.cinder import base; print('class', base._connector_mapping['openvstorage_edge'])\n"


def run(program: str) -> str:
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("start", ["glance_store.register_store_opts(conf)", "glance_store.register_opts(conf)"])
def test_glances_start_registers(start: str) -> None:
    end = "print('others', sorted({'cinder', 'nova'} & set(sys.modules)))\n"
    said = run(f"{START}{start}\n{TABLE}{end}")
    assert "class openvstorage.brick.image_connector.ImageVolumeConnector\n" in said
    assert "others []" in said
    assert "WARNING" not in said


def test_os_brick_has_our_connector_then() -> None:
    made = (
        "from os_brick.initiator import connector as c; print(c.InitiatorConnector.factory('openvstorage_edge', 's'))"
    )
    assert "OpenvStorageEdgeConnector" in run(f"{START}glance_store.register_store_opts(conf)\n{made}")


def test_no_option_comes_with_it() -> None:
    end = "print('options', sorted(set(multi_backend._list_driver_opts())), len(backend._list_opts()))"
    assert "openvstorage" not in run(f"{START}{end}").partition("options")[2]


def test_glance_without_os_brick_starts() -> None:
    end = "glance_store.register_store_opts(conf); print('started', 'file' in multi_backend._list_driver_opts())"
    said = run(f"import sys; sys.modules['os_brick'] = None\n{START}{end}")
    assert "started True" in said
    assert "Traceback" not in said.partition("Glance's cinder store is not installed whole")[2].splitlines()[0]


@pytest.mark.parametrize("change", ["del base._connector_mapping", "del base.BaseBrickConnectorInterface.yield_path"])
def test_other_glance_store_starts_and_says_so(change: str) -> None:
    before = f"from glance_store._drivers.cinder import base; {change}"
    said = run(f"{START}{before}\nglance_store.register_store_opts(conf); print('started')")
    assert "WARNING Images cannot be kept on volumes of a vPool: this release of glance_store" in said
    assert said.endswith("started\n")


def test_broken_os_brick_is_logged() -> None:
    """An error that is none of imports, from deep inside."""
    before = "import os_brick.initiator.connector as c; del c.get_connector_mapping"
    said = run(f"{START}{before}\nglance_store.register_store_opts(conf); print('started')")
    assert "ERROR Images cannot be kept on volumes of a vPool" in said
    assert said.endswith("started\n")


def test_configured_as_a_store_it_says_which_to_use() -> None:
    end = "print('store', multi_backend._load_multi_store(conf, 'openvstorage', backend='volumes'))"
    said = run(f"{START}{end}")
    assert "configure the store 'cinder'" in said
    assert "store None" in said


def test_installed_files_are_the_released_ones() -> None:
    assert differences("glance-store", "glance_store") == []
    assert differences("os-brick", "os_brick") == []
