"""Every error that somebody can meet is explained."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

# What defines errors.
import openvstorage.vpool.exports.qemu
import openvstorage.vpool.operations.merge  # noqa: F401
from openvstorage.client import OpenvStorageError, refusals
from openvstorage.contract.codes import ErrorCode
from openvstorage.edge.errors import EdgeError
from openvstorage.vpool.access.errors import AccessError
from openvstorage.vpool.backends.base import PoolFull
from openvstorage.vpool.exports.errors import ExportsError
from openvstorage.vpool.operations.errors import OperationError, text_of

PAGE = (Path(__file__).parents[3] / "docs" / "errors.md").read_text()


def kinds(root: type[Exception]) -> Iterator[type[Exception]]:
    for kind in root.__subclasses__():
        yield kind
        yield from kinds(kind)


def texts() -> set[str]:
    """Give what errors say, with "…" for what differs."""
    roots = (OpenvStorageError, EdgeError, AccessError, ExportsError, OperationError)
    templates = {kind.template for root in roots for kind in kinds(root) if "template" in vars(kind)}
    return {re.sub(r"{[^}]*}", "…", template) for template in templates}


@pytest.mark.parametrize("text", sorted(texts()))
def test_error_is_explained(text: str) -> None:
    assert f"`{text}`" in PAGE


@pytest.mark.parametrize("code", ErrorCode)
def test_code_is_told_with_its_class(code: ErrorCode) -> None:
    kind = refusals.BY_CODE[code]
    assert f"| `{code}` | `{kind.__name__}` | `{kind.__base__.__name__}` |" in PAGE


def test_errors_without_a_template_are_explained() -> None:
    assert f"`{PoolFull()}`" in PAGE
    assert f"`{text_of(ValueError()).replace('ValueError', '…')}`" in PAGE
