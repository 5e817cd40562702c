"""Run tests of Nova's own with our plug-in loaded first, as nova-compute loads it.

python nova_upstream.py MODULE...    in the environment of tests/support/nova_env.py
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import unittest
from unittest import mock

import nova.cmd.compute  # what tells our plug-in that this is nova-compute
import os_vif
from nova import conf
from nova.virt.libvirt import driver
from oslo_config import cfg

import openvstorage.nova.driver
import openvstorage.nova.resume


def main(modules: list[str]) -> int:
    """Load our plug-in the way nova-compute does, then run these modules' tests. Give 0 if all are well."""
    assert nova.cmd.compute
    conf.CONF.set_default("compute_driver", "libvirt.LibvirtDriver")
    # The thread that looks after paused guests would import libvirt in the middle of a test, which Nova's tests forbid.
    with mock.patch.object(openvstorage.nova.resume.Resumer, "start") as started:
        os_vif.initialize()
    assert started.called
    assert "openvstorage_edge" in driver.VOLUME_DRIVERS, "our plug-in is not loaded"
    assert openvstorage.nova.driver  # loaded as well, so that Nova's checks of all drivers see it
    conf.CONF.clear_default("compute_driver")
    cfg.CONF.reset()
    suite = unittest.TestSuite()
    for name in [found for module in modules for found in _test_modules(module)]:
        suite.addTests(unittest.defaultTestLoader.loadTestsFromName(name))
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    print(f"{result.testsRun} tests, {len(result.skipped)} skipped")
    return 0 if result.wasSuccessful() and result.testsRun else 1


def _test_modules(name: str) -> list[str]:
    module = importlib.import_module(name)
    if not hasattr(module, "__path__"):
        return [name]
    return [f"{name}.{found.name}" for found in pkgutil.iter_modules(module.__path__) if found.name.startswith("test_")]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
