"""The library needs the standard library and requests, and nothing of OpenStack or of a web framework.

What it shares with the service, the words of the API, needs the standard library alone.
"""

import ast
import sys
from pathlib import Path

import pytest

import openvstorage.client
import openvstorage.contract

# urllib3 comes with requests.
ROOMS = [
    (openvstorage.client, ("openvstorage.client", "openvstorage.contract"), {"requests", "urllib3"}),
    (openvstorage.contract, ("openvstorage.contract",), set()),
]


@pytest.mark.parametrize(("room", "ours", "others"), ROOMS)
def test_nothing_else_is_imported(room, ours, others):
    for path in Path(room.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                allowed = name.split(".")[0] in {*others, *sys.stdlib_module_names}
                assert allowed or name.startswith(ours), f"{path.name}: {name}"
