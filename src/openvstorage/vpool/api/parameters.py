"""Parameters: where a call finds them and what they may be.

Open vStorage looks a parameter up in the path, then in the body, then in the query string, for every call. A body is
JSON or a form; none, an empty one and ``null`` mean the same. Unknown parameters are ignored. Whatever the databases or
a JSON encoder could not carry (NUL, lone surrogates, numbers beyond 64 bits, endless nesting) is refused here, in one
place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Message

from openvstorage.vpool.api.context import context_of
from openvstorage.vpool.api.envelopes import ApiError, DetailError, invalid

__all__ = ["Parameters", "arguments", "body_schema", "parsed", "query_schema", "read_body", "read_form"]

MAX_DEPTH = 32
MAX_FIELDS = 1000
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

P = TypeVar("P", bound="Parameters")


class Parameters(BaseModel):
    """Base of the parameters of a call: unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


async def arguments(request: Request) -> dict[str, Any]:
    """Gather what a request says: query string, then body, then path, the later ones winning.

    :raises ApiError: the body can not be read, or holds what no parameter can be.
    """
    known: dict[str, Any] | None = getattr(request.state, "arguments", None)
    if known is None:
        known = dict(request.query_params)
        known.update(await _body(request))
        _require_sane(known)
        known.update(request.path_params)  # looked up, or not found, whatever they hold
        request.state.arguments = known
    return known


def parsed(model: type[P]) -> Callable[[Request], Awaitable[P]]:
    """Make a dependency that gives a call's parameters.

    :param model: what they are.
    :returns: a dependency; it raises :class:`ApiError` 406 ``invalid_data`` with the first thing that is wrong.
    """

    async def dependency(request: Request) -> P:
        try:
            return model.model_validate(await arguments(request))
        except ValidationError as problem:
            raise invalid(_sentence(problem)) from None

    return dependency


def body_schema(model: type[Parameters]) -> dict[str, Any]:
    """:returns: what an OpenAPI operation says of parameters in its body; for ``openapi_extra``."""
    schema = _inlined(model)
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    return {"requestBody": {"content": content, "required": bool(schema.get("required"))}}


def query_schema(model: type[Parameters]) -> dict[str, Any]:
    """:returns: what an OpenAPI operation says of parameters in its query string; for ``openapi_extra``."""
    schema = _inlined(model)
    required = schema.get("required", [])
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": name in required,
                "description": field.pop("description", ""),
                "schema": field,
            }
            for name, field in schema.get("properties", {}).items()
        ]
    }


async def read_body(request: Request) -> bytes:
    """:returns: the whole body.

    :raises ApiError: 413, it is longer than the settings allow.
    """
    limit = context_of(request).settings.max_body
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise ApiError(413, "request_too_large", f"A request body has at most {limit} bytes")
    return bytes(body)


async def read_form(request: Request) -> dict[str, Any]:
    """:returns: the fields of a form body; empty for a body of another type.

    :raises ApiError: it is too long or malformed.
    """
    return await _form(request, await read_body(request), _media_type(request))


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _body(request: Request) -> dict[str, Any]:
    body = await read_body(request)
    if not body.strip():
        return {}
    media_type = _media_type(request)
    if media_type in _FORMS:
        return await _form(request, body, media_type)
    if media_type != "application/json":
        raise DetailError(415, f"Unsupported media type in request: send application/json, not {media_type!r}")
    value = _json(body)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise DetailError(400, "The body has to be a JSON object, with the parameters by name")
    return value


async def _form(request: Request, body: bytes, media_type: str) -> dict[str, Any]:
    if media_type == _FORMS[0]:
        try:
            fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
        except ValueError:
            raise DetailError(400, "The form can not be read") from None
        return dict(fields)
    if media_type != _FORMS[1]:
        return {}

    async def replay() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Request(request.scope, replay).form(max_files=0, max_fields=MAX_FIELDS) as form:
            return {name: value for name, value in form.items() if isinstance(value, str)}
    except HTTPException:
        raise DetailError(400, "The multipart form can not be read") from None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_no_constant)
    except RecursionError:
        raise DetailError(400, f"JSON parse error: more than {MAX_DEPTH} levels deep") from None
    except ValueError as problem:  # also of bytes that are not UTF-8 and of numbers with thousands of digits
        text = str(problem) if isinstance(problem, json.JSONDecodeError) else "not JSON in UTF-8"
        raise DetailError(400, f"JSON parse error: {text}") from None


def _no_constant(word: str) -> NoReturn:
    raise json.JSONDecodeError(f"{word} is not JSON", "", 0)


def _require_sane(value: Any, depth: int = 0) -> None:
    """Refuse what a database or an encoder can not carry.

    :raises ApiError: 406 ``invalid_data``.
    """
    if depth > MAX_DEPTH:
        raise invalid(f"Parameters are nested more than {MAX_DEPTH} levels deep")
    match value:
        case str():
            if "\0" in value:
                raise invalid("A text holds the character NUL")
            try:
                value.encode()
            except UnicodeEncodeError:
                raise invalid("A text holds half of a surrogate pair") from None
        case float():
            if not math.isfinite(value):
                raise invalid("A number is too large")
        case int():
            if abs(value) >= 2**63:
                raise invalid("A number does not fit 64 bits")
        case dict():
            for key, item in value.items():
                _require_sane(key, depth)
                _require_sane(item, depth + 1)
        case list():
            for item in value:
                _require_sane(item, depth + 1)


def _sentence(problem: ValidationError) -> str:
    first = problem.errors(include_url=False, include_input=False, include_context=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"{name} is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"{name}: {message}" if name else message


def _inlined(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema with what it refers to put in place: OpenAPI has no ``$defs``."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolve(part: Any) -> Any:
        if isinstance(part, dict):
            if "$ref" in part:
                referred = definitions[part["$ref"].rpartition("/")[2]]
                return resolve({**referred, **{k: v for k, v in part.items() if k != "$ref"}})
            return {key: resolve(item) for key, item in part.items()}
        return [resolve(item) for item in part] if isinstance(part, list) else part

    resolved: dict[str, Any] = resolve(schema)
    return resolved
