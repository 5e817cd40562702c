"""The reference page and the OpenAPI document that it is made from."""

from __future__ import annotations

from pathlib import Path

from openvstorage.vpool.api.reference import document, page

PAGE = Path(__file__).parents[3] / "docs" / "rest-api.md"


def test_page_is_what_the_service_says() -> None:
    assert PAGE.read_text() == page(document()), "run: python -m openvstorage.vpool.api.reference > docs/rest-api.md"


def test_every_call_says_what_it_does_and_needs() -> None:
    open_to_all = {"/api/", "/api/oauth2/token/"}
    names = set()
    for path, operations in document()["paths"].items():
        for operation in operations.values():
            assert operation.get("description") or " " in operation["summary"], path
            assert (not operation.get("security")) == (path in open_to_all), path
            assert operation["operationId"] not in names, path
            names.add(operation["operationId"])
