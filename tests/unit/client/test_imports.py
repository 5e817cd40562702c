"""The library needs the standard library and requests, and nothing of OpenStack or of a web framework."""

import ast
import sys
from pathlib import Path

import openvstorage.client

FOLDER = Path(openvstorage.client.__file__).parent
# urllib3 comes with requests.
ALLOWED = {"requests", "urllib3", *sys.stdlib_module_names}


def test_nothing_but_requests_is_imported():
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.startswith("openvstorage.client") or name.split(".")[0] in ALLOWED, f"{path.name}: {name}"
