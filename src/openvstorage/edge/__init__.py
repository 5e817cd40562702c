"""Where a vDisk's bytes are, and how a program on this host reads and writes them.

Locations (URIs), an NBD client, a file-like handle over it and the ``qemu-img`` subcommands that the drivers use.
Nothing here knows the management API or OpenStack: a caller brings a grant's location and gets bytes.
"""
