"""The all-in-one: a real OpenStack of the current release on one machine, with a vPool as its volume backend.

Everything runs as a plain process on loopback, below one state directory. Nothing here needs systemd, a kernel module
or a mount namespace, so a plain container is enough.
"""
