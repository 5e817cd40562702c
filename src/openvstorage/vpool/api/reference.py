"""The reference of the API as a page, made from its OpenAPI document.

python -m openvstorage.vpool.api.reference > docs/rest-api.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from openvstorage.vpool.api.app import create_app
from openvstorage.vpool.api.context import ApiContext

__all__ = ["document", "page"]

#: What a page of tables can not say.
_INTRODUCTION = Path(__file__).with_suffix(".md")

_TITLES = {
    "metadata": "Metadata",
    "tokens": "Tokens",
    "vdisks": "vDisks",
    "vpools": "vPools",
    "cluster": "Nodes",
    "grants": "Grants",
    "tasks": "Tasks",
    "metrics": "Metrics",
}


def document() -> dict[str, Any]:
    """:returns: the OpenAPI document, without a service."""
    return create_app(cast(ApiContext, SimpleNamespace())).openapi()


def page(described: Mapping[str, Any]) -> str:
    """Write the reference.

    :param described: an OpenAPI document.
    :returns: Markdown.
    """
    parts = [_INTRODUCTION.read_text()]
    for tag, title in _TITLES.items():
        parts.append(f"## {title}\n")
        for path, operations in described["paths"].items():
            for method, operation in operations.items():
                if tag in operation["tags"]:
                    parts.append("\n".join(_operation(method, path, operation)) + "\n")
    return "\n".join(parts)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### `{method.upper()} {path}`\n"
    yield (operation.get("description") or operation["summary"]).rstrip(".") + "."
    roles = [role for scheme in operation.get("security", []) for role in scheme.get("token", [])]
    result = operation["responses"]["200"]["description"]
    yield f"Roles: {', '.join(roles) if roles else 'none'}. Answer: {result}.\n"
    rows = [*_parameters(operation), *_body(operation)]
    if rows:
        yield from ("| parameter | where | type | |", "|---|---|---|---|", *rows)


def _parameters(operation: Mapping[str, Any]) -> Iterator[str]:
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query":
            yield _row(parameter["name"], "query", parameter["schema"], parameter["required"], parameter["description"])


def _body(operation: Mapping[str, Any]) -> Iterator[str]:
    for media in operation.get("requestBody", {}).get("content", {}).values():
        schema = media["schema"]
        for name, field in schema.get("properties", {}).items():
            yield _row(name, "body", field, name in schema.get("required", []), field.get("description", ""))


def _row(name: str, where: str, schema: Mapping[str, Any], required: bool, text: str) -> str:
    default = schema.get("default")
    told = text if default is None else f"{text} (default {default!r})".strip()
    described = told.replace("|", "\\|")
    return f"| `{name}`{'' if required else ' (optional)'} | {where} | {_type(schema)} | {described} |"


def _type(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(choice) for choice in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if schema.get("type") == "object" and "properties" in schema:
        return "object of " + ", ".join(f"`{name}`" for name in schema["properties"])
    return str(schema.get("type", "any"))


if __name__ == "__main__":
    sys.stdout.write(page(document()))
