"""The reference of the ``openvstorage`` command and of the service's settings, made from the code itself.

python -m openvstorage.reference
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import typer

from openvstorage.commands import app
from openvstorage.vpool.config import ServiceConfig

__all__ = ["page"]

_SETTINGS = """\
## Settings of a vPool

Kept in `config.json` in the vPool's directory. Those that `openvstorage serve` has an option for are written there when
it is given; the file may be edited while the service does not run.

| setting | default | meaning |
|---|---|---|"""


def page() -> str:
    """:returns: a part of a page, Markdown."""
    commands = _describe(typer.main.get_command(app), "openvstorage")
    return "\n".join([*commands, _SETTINGS, *_settings()]) + "\n"


def _describe(command: Any, name: str) -> Iterator[str]:
    subcommands = getattr(command, "commands", {})
    for word, subcommand in subcommands.items():
        yield from _describe(subcommand, f"{name} {word}")
    if subcommands:
        return
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    yield f"## `{' '.join([name, *(each.name.upper() for each in arguments)])}`\n"
    yield f"{command.help}\n"
    if arguments or options:
        yield from ("| | default | meaning |", "|---|---|---|")
        yield from (_row(each.name.upper(), "", each.help) for each in arguments)
        yield from (
            _row("`, `".join([*each.opts, *each.secondary_opts]), _default(each), each.help) for each in options
        )
        yield ""


def _default(option: Any) -> str:
    if option.required:
        return "required"
    return "" if option.default in (None, False) else f"`{option.default}`"


def _settings() -> Iterator[str]:
    told = dict(re.findall(r"^:ivar (\w+): (.+?)$(?=\n:|\Z)", inspect.getdoc(ServiceConfig) or "", re.M | re.S))
    for field in fields(ServiceConfig):
        default = "" if field.default in (None, "") else f"`{field.default}`"
        yield _row(field.name, default, told[field.name].replace("``", "`"))


def _row(name: str, default: str, meaning: str | None) -> str:
    return f"| `{name}` | {default} | {' '.join((meaning or '').split())} |"


if __name__ == "__main__":
    sys.stdout.write(page())
