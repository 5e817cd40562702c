"""What every operation in the OpenAPI document says in the same way."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from openvstorage.vpool.api.lists import ListParameters
from openvstorage.vpool.api.parameters import Parameters, body_schema, query_schema
from openvstorage.vpool.api.shapes import ErrorShape, ListShape

__all__ = ["ERRORS", "answers", "lists", "shows", "tasks"]

_ERRORS = {
    400: "The request can not be read",
    401: "The token is not valid (any more)",
    403: "No token, or it lacks a role",
    404: "No such object",
    406: "A parameter is missing or impossible, or no version was given",
    409: "The Idempotency-Key stands for another request",
    413: "The body is too long",
    415: "The body is neither JSON nor a form",
    426: "This version of the API is not spoken here",
    429: "Too many calls",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorShape, "description": text} for status, text in _ERRORS.items()
}
_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Name of this request: sent again it gets the same task",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
}


def answers(shape: type[BaseModel] | Any, description: str = "Done") -> dict[str, Any]:
    """:returns: arguments of a route whose 200 has this shape."""
    return {"responses": {200: {"model": shape, "description": description}}}


def lists(parameters: type[Parameters] = ListParameters) -> dict[str, Any]:
    """:returns: arguments of a route that answers a list."""
    return {**answers(ListShape, "A list"), "openapi_extra": query_schema(parameters)}


def shows(shape: type[BaseModel], parameters: type[Parameters]) -> dict[str, Any]:
    """:returns: arguments of a route that answers one object."""
    return {**answers(shape, "The object"), "openapi_extra": query_schema(parameters)}


def tasks(parameters: type[Parameters] | None = None, result: str = "null") -> dict[str, Any]:
    """:returns: arguments of a route that answers a task.

    :param parameters: what the body may say.
    :param result: what the task's result is, in words.
    """
    extra = body_schema(parameters) if parameters is not None else {}
    described = f"Id of a task; its result: {result}"
    return {
        "responses": {200: {"model": str, "description": described}},
        "openapi_extra": {**extra, "parameters": [_IDEMPOTENCY]},
    }
