"""The layers backend: a vDisk is an active qcow2 layer over frozen ones, in a local directory.

A snapshot names a frozen layer; a clone and a rollback are a new active layer over one. Which layer lies over which is
in the database and is always given to QEMU explicitly; the image headers only repeat it.
"""
