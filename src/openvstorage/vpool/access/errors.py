"""Why somebody was not let in. The branch says what the caller can do about it.

``LoginRefused``: asking again with the same credentials does not help. ``TokenRefused``: log in again.
``RateLimited``: wait ``retry_after`` seconds. ``AuthorityError``: an operator has to look at the certificate files.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AccessError",
    "AuthorityError",
    "InactiveUser",
    "InvalidClient",
    "InvalidGrant",
    "InvalidScope",
    "InvalidToken",
    "LockedOut",
    "LoginRefused",
    "RateLimited",
    "TokenExpired",
    "TokenRefused",
    "TooManyCalls",
    "UnauthorizedClient",
    "UserExists",
    "UserNotActive",
]


class AccessError(Exception):
    """Base of everything this room raises; ``code`` is the word the management API uses for it."""

    code: ClassVar[str] = "access_denied"
    template: ClassVar[str] = "Access denied"

    def __init__(self, **details: object) -> None:
        self.details = details
        super().__init__(self.template.format(**details))


class LoginRefused(AccessError):
    """No token is given."""


class InvalidClient(LoginRefused):
    """Unknown user or client, or a wrong password or secret; which of them is not told."""

    code = "invalid_client"
    template = "The user name, client or its secret is wrong"


class InactiveUser(LoginRefused):
    """The credentials are right, the user is switched off."""

    code = "inactive_user"
    template = "The user is not active"


class UnauthorizedClient(LoginRefused):
    """The user may not log in by password."""

    code = "unauthorized_client"
    template = "The user has no client for password logins"


class InvalidGrant(LoginRefused):
    """The client is not one for the ``client_credentials`` grant."""

    code = "invalid_grant"
    template = "The client may not use this grant"


class InvalidScope(LoginRefused):
    """A role was asked for that does not exist or that the client does not have."""

    code = "invalid_scope"
    template = "The client does not have the role {role}"


class TokenRefused(AccessError):
    """The token opens nothing (any more)."""


class InvalidToken(TokenRefused):
    """Never issued, or gone."""

    code = "invalid_token"
    template = "The token is not known"


class TokenExpired(TokenRefused):
    """Was valid; reported once, after that the token is not known."""

    code = "token_expired"
    template = "The token has expired"


class UserNotActive(TokenRefused):
    """The user was switched off after the token was issued."""

    code = "inactive_user"
    template = "The user is not active"


class RateLimited(AccessError):
    """Too many calls from one address.

    :ivar retry_after: whole seconds after which the next call is answered.
    """

    def __init__(self, *, retry_after: int, **details: object) -> None:
        self.retry_after = retry_after
        super().__init__(retry_after=retry_after, **details)


class TooManyCalls(RateLimited):
    """The call that reached the limit; the address is locked out from now on."""

    code = "rate_limit_reached"
    template = "More than {calls} calls in {seconds} seconds; wait {retry_after} seconds"


class LockedOut(RateLimited):
    """The address is locked out."""

    code = "rate_limit_timeout"
    template = "Too many calls before this one; wait {retry_after} seconds"


class UserExists(AccessError):
    """A user of that name is there already."""

    code = "duplicate"
    template = "A user named {username} is there already"


class AuthorityError(AccessError):
    """The files of the certificate authority do not belong together, or one is missing."""

    code = "authority"
    template = "{problem}: {path}. Restore it from a backup; a new authority would lock out every client"
