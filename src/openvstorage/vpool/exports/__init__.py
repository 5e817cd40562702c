"""Exports: the storage daemons (``qemu-storage-daemon``) that serve vDisks over NBD.

One daemon per vDisk in use. This room knows processes, sockets, QMP, throttling and NBD exports. It knows nothing of
the model, of tasks or of layers: the caller says which block nodes a vDisk is made of.
"""
