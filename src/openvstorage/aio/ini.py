"""INI: configuration files of OpenStack's services from nested dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from openvstorage.aio.credentials import REGION
from openvstorage.aio.paths import write_private

__all__ = ["LOG_LEVELS", "Sections", "service_user", "token_checks", "write_ini"]

Sections = Mapping[str, Mapping[str, object]]

# A debug log full of other libraries' chatter hides what is looked for; keystoneauth's has secrets, too.
LOG_LEVELS = (
    "amqp=WARN,amqplib=WARN,sqlalchemy=WARN,oslo.messaging=INFO,oslo_messaging=INFO,urllib3.connectionpool=WARN,"
    "stevedore=WARN,keystoneauth=WARN,keystonemiddleware=WARN,dogpile=INFO,eventlet.wsgi=WARN"
)


def write_ini(path: Path, sections: Sections) -> Path:
    """Write an oslo.config file, mode 0600, and return its path. Booleans become ``true`` or ``false``."""
    lines: list[str] = []
    for name, options in sections.items():
        lines.append(f"[{name}]")
        for option, value in options.items():
            lines.append(f"{option} = {str(value).lower() if isinstance(value, bool) else value}")
        lines.append("")
    write_private(path, "\n".join(lines))
    return path


def token_checks(auth_url: str, name: str, password: str) -> dict[str, object]:
    """Return the section ``keystone_authtoken``: how a service checks the tokens that it is shown."""
    return {
        **service_user(auth_url, name, password),
        "www_authenticate_uri": auth_url,
        "service_token_roles": "service",
        "service_token_roles_required": True,
    }


def service_user(auth_url: str, name: str, password: str) -> dict[str, object]:
    """Return the options by which a service logs in at Keystone as itself."""
    return {
        "auth_url": auth_url,
        "auth_type": "password",
        "username": name,
        "password": password,
        "project_name": "service",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
        "region_name": REGION,
    }
