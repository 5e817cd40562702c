"""``openvstorage-cinder-backup``: the stock cinder-backup, with our connector registered.

It takes cinder-backup's arguments and reads cinder-backup's configuration. It is no backup driver: Cinder stores the
class path of the driver in each backup, so one of ours would orphan the backups made before it, and its removal those
made since.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["main"]


def main() -> None:
    """Run cinder-backup until it is told to end."""
    # Cinder comes before anything that uses threads or sockets: it may replace them by green ones.
    from cinder.cmd import backup

    from openvstorage.brick.registration import register

    register()
    # oslo.config finds cinder-backup.conf by this name.
    sys.argv[0] = str(Path(sys.argv[0]).with_name("cinder-backup"))
    backup.main()
