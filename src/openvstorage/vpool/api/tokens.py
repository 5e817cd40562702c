"""``/api/oauth2/token/``: access tokens for a password or for a client's secret. The body is a form."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from openvstorage.vpool.access.accounts import Login
from openvstorage.vpool.access.errors import InvalidClient
from openvstorage.vpool.api.context import ApiContext, context_of
from openvstorage.vpool.api.documented import answers
from openvstorage.vpool.api.envelopes import ApiError
from openvstorage.vpool.api.parameters import read_form
from openvstorage.vpool.api.shapes import TokenShape

router = APIRouter(prefix="/oauth2", tags=["tokens"])

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": ["password", "client_credentials"]},
                        "username": {"type": "string"},
                        "password": {"type": "string", "format": "password"},
                        "scope": {"type": "string", "description": "Roles, separated by spaces; all if absent"},
                    },
                }
            }
        },
    }
}


# Open vStorage answers everything below this prefix; clients that forget the slash rely on it.
@router.post("/token", include_in_schema=False)
@router.post("/token/", **answers(TokenShape, "A token"), openapi_extra=_FORM)
async def issue_token(request: Request) -> Response:
    """Log in. Wrong credentials are answered with 400, as Open vStorage does."""
    context = context_of(request)
    context.token_limiter.check(client_address(request))
    form = await read_form(request)
    grant_type = form.get("grant_type")
    if not grant_type:
        raise ApiError(400, "invalid_request", "The form has to name a grant_type")
    if grant_type == "password":
        login = await _by_password(context, form)
    elif grant_type == "client_credentials":
        login = await _by_secret(context, request.headers.get("authorization"))
    else:
        raise ApiError(400, "unsupported_grant_type", "The grant_type is password or client_credentials")
    issued = await context.tokens.issue(login, form.get("scope"))
    answer = {"access_token": issued.access_token, "token_type": "bearer", "expires_in": issued.expires_in}
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


def client_address(request: Request) -> str:
    """:returns: the address that a request came from."""
    return request.client.host if request.client is not None else "unknown"


async def _by_password(context: ApiContext, form: dict[str, Any]) -> Login:
    # The Authorization header is not looked at: clients send "No Auth" in it.
    if not form.get("username") or not form.get("password"):
        raise ApiError(400, "invalid_request", "The form has to give username and password")
    return await context.accounts.by_password(form["username"], form["password"])


async def _by_secret(context: ApiContext, header: str | None) -> Login:
    if header is None:
        raise ApiError(400, "missing_header", "The Authorization header has to give client id and secret")
    try:
        decoded = base64.b64decode(header.rpartition(" ")[2], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise InvalidClient() from None
    client_guid, _, secret = decoded.partition(":")
    return await context.accounts.by_secret(client_guid, secret)
