"""Horizon where no Nova is in the catalogue. Runs inside Horizon, which imports it as its customization module.

Its page of volumes asks Nova what they are attached to, and who logs in is sent to a page about instances.
"""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from horizon.base import Horizon
from openstack_dashboard.api import nova

__all__ = ["user_home"]

_COMPUTE = "openstack.services.compute"
_server_list = nova.server_list


def user_home(user: Any) -> str:
    """Return the path of the page that a user gets at first."""
    if user.has_perm(_COMPUTE):
        return str(Horizon.get_absolute_url())
    return str(reverse("horizon:project:volumes:index"))


def _server_list_or_none(request: Any, *positions: Any, **names: Any) -> Any:
    if request.user.has_perm(_COMPUTE):
        return _server_list(request, *positions, **names)
    return [], False


nova.server_list = _server_list_or_none
