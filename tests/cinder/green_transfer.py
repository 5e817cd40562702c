# ruff: noqa: E402 - patching has to come first
"""Run by test_images in a process of its own: transfers as cinder-volume does them, patched by eventlet or not.

It writes a vDisk through a stream, reads it through a handle in ``tpool`` while another green thread goes on counting,
and prints "same" and whether the sockets were patched.
"""

from __future__ import annotations

import random
import sys

import cinder

if sys.argv[2] == "yes":
    import eventlet

    eventlet.monkey_patch()

from cinder import objects

objects.register_all()

import cinder.volume.manager
from cinder.volume import configuration
from eventlet import patcher, tpool
from oslo_config import cfg

from openvstorage.cinder import opts, transfer
from openvstorage.cinder.pool import Pool
from openvstorage.edge.handle import NbdHandle
from openvstorage.edge.nbd import NbdClient
from openvstorage.edge.stream import StreamWriter

MIB = 1024 * 1024

cfg.CONF([], project="cinder", default_config_files=[sys.argv[1]])
backend = configuration.Configuration(cinder.volume.manager.volume_backend_opts, config_group="myvpool01")
opts.register(backend)
pool = Pool(opts.make_client(backend), backend.openvstorage_vpool_guid)
guid = pool.client.vdisks.create(f"green-{sys.argv[2]}", 64 * MIB, pool.vpool_guid)
data = random.Random(1).randbytes(20 * MIB)
with transfer.transfer(pool, guid, "rw") as grant:
    with NbdClient.connect(grant.host, grant.port, grant.export_name) as nbd:
        writer = StreamWriter(nbd, reads_as_zero=True)
        for at in range(0, len(data), 65536):
            writer.write(data[at : at + 65536])
        writer.finish()
    with NbdClient.connect(grant.host, grant.port, grant.export_name) as nbd, NbdHandle(nbd) as handle:
        file = tpool.Proxy(handle)
        copy = b"".join(iter(lambda: file.read(65536), b""))
pool.client.vdisks.delete(guid)
print("same" if copy == data + bytes(64 * MIB - len(data)) else "different")
print("yes" if patcher.is_monkey_patched("socket") else "no")
