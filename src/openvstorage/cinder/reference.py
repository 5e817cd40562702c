"""The reference of the driver's options as a page's part, made from the options themselves.

python -m openvstorage.cinder.reference
"""

from __future__ import annotations

import sys

from oslo_config import cfg

from openvstorage.cinder.opts import GUIDE_NAMES, OPTIONS

__all__ = ["page"]

_TYPES = {
    cfg.ListOpt: "list",
    cfg.PortOpt: "port",
    cfg.StrOpt: "text",
    cfg.BoolOpt: "true or false",
    cfg.FloatOpt: "number",
    cfg.IntOpt: "whole number",
}

_INTRODUCTION = """\
## The Cinder driver

In the backend's own section of `cinder.conf`, or for all backends in `[backend_defaults]`. The names of the guide of
2017 are read in the backend's own section only. As a file: [openvstorage.conf.sample](openvstorage.conf.sample).
"""


def page() -> str:
    """:returns: Markdown."""
    rows = [_INTRODUCTION, "| option | type | default | in the guide | meaning |", "|---|---|---|---|---|"]
    rows += [_row(option) for option in OPTIONS]
    return "\n".join(rows) + "\n"


def _row(option: cfg.Opt) -> str:
    default = f"`{option.default}`" if option.default not in (None, []) else ""
    guide = f"`{GUIDE_NAMES[option.name]}`" if option.name in GUIDE_NAMES else ""
    meaning = option.help + (" Kept out of logs." if option.secret else "")
    return f"| `{option.name}` | {_TYPES[type(option)]} | {default} | {guide} | {meaning} |"


if __name__ == "__main__":
    sys.stdout.write(page())
