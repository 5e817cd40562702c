"""The service process: puts the rooms together, starts them in order, and ends them in the opposite one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import resource
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from openvstorage.contract.durability import Durability
from openvstorage.vpool.access.accounts import Accounts
from openvstorage.vpool.access.limits import RateLimit
from openvstorage.vpool.access.server_certificate import ServerCertificate
from openvstorage.vpool.access.tokens import Tokens
from openvstorage.vpool.api.app import create_app
from openvstorage.vpool.api.arrival import TimelyServer
from openvstorage.vpool.api.connections import CountedListener
from openvstorage.vpool.api.context import ApiContext, ApiSettings
from openvstorage.vpool.assembly import Boundary, assemble
from openvstorage.vpool.backends.layers.space import Space
from openvstorage.vpool.config import ServiceConfig, write_private
from openvstorage.vpool.exports.identity import Identity
from openvstorage.vpool.model.database import Database, NewerSchema
from openvstorage.vpool.operations import Operations
from openvstorage.vpool.pool import Claim, PoolDirectory, PoolError, PoolLock, claim
from openvstorage.vpool.setup import ADMINISTRATOR, Inventory, ensure_administrator, ensure_inventory

log = logging.getLogger(__name__)

MAX_FILES = 65_536
#: Clients keep connections in a pool; one that is closed just as it is used again costs them a doubt.
KEEP_ALIVE_SECONDS = 75
#: How long a stop waits for answers under way; who is cut off is told to ask again.
GRACEFUL_SECONDS = 3


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How to serve a data directory.

    :ivar accept_database: take a database that does not fit the directory; see :func:`pool.claim`.
    :ivar boundary: see :class:`operations.context.Context`; None for nothing.
    """

    data: Path
    config: ServiceConfig
    accept_database: bool = False
    boundary: Boundary | None = None


async def serve(options: ServeOptions) -> None:
    """Serve until SIGTERM or SIGINT. Storage daemons live on afterwards.

    :raises PoolError: the directory can not be served.
    :raises ExportsError: QEMU's programs are missing or unusable.
    """
    config = options.config.checked()
    os.umask(0o077)
    allow_many_files()
    options.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory = PoolDirectory(options.data.resolve())
    directory.check()
    directory.logs.mkdir(mode=0o700, exist_ok=True)
    with PoolLock(directory.root), _listen(config) as listener:
        Space.of(config, directory.root).ease()
        db = Database(config.database or directory.database_url())
        try:
            try:
                await db.upgrade()
            except NewerSchema as error:
                raise PoolError(str(error)) from error
            claimed = await claim(directory, db, accept_database=options.accept_database)
            await _serve_pool(options, directory, db, claimed, listener)
        finally:
            await db.close()


async def _serve_pool(
    options: ServeOptions, directory: PoolDirectory, db: Database, claimed: Claim, listener: socket.socket
) -> None:
    config = options.config
    inventory = await ensure_inventory(db, config)
    accounts = Accounts(db)
    await ensure_administrator(accounts, directory.password_file)
    config.save(directory.root)
    certificate = await asyncio.to_thread(ServerCertificate.open, directory.tls, config.server_names())
    operations = await assemble(config, directory, db, claimed, inventory, certificate, boundary=options.boundary)
    settings = ApiSettings(
        cluster_id=claimed.guid,
        strict_compat=config.strict_compat,
        durability=Durability(config.durability),
        token_limit=RateLimit(calls=config.token_calls),
    )
    server = _server(create_app(ApiContext(db, operations, accounts, Tokens(db), settings)), certificate)
    await operations.start()
    try:
        state = _state(directory, config, inventory, certificate.files.ca_file)
        state["discards_in_place"] = operations.discards_in_place
        write_private(directory.state_file, json.dumps(state, indent=2) + "\n")
        with _ends_on_signal(server, operations):
            log.info("vPool %s is served at https://%s", config.vpool, config.listen)
            if not config.edge_tls:
                log.warning(
                    "vDisks are served without TLS: every user of this machine can read and write all of them; "
                    "'openvstorage serve --edge-tls' lets in only who has a certificate and a grant"
                )
            await server.serve(sockets=[listener])
    finally:
        log.info("stopping; storage daemons live on")
        await operations.stop()


def _server(app: FastAPI, certificate: ServerCertificate) -> _Server:
    server = _Server(
        uvicorn.Config(
            app,
            ssl_certfile=certificate.files.certificate,
            ssl_keyfile=certificate.files.key,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # whoever is on this machine could otherwise name another address to the login limit
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACEFUL_SECONDS,
        )
    )
    certificate.on_renewal.append(server.renew_certificate)
    return server


def allow_many_files() -> None:
    """Each storage daemon costs three descriptors here, and shells give a thousand."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _state(directory: PoolDirectory, config: ServiceConfig, inventory: Inventory, ca_file: Path) -> dict[str, object]:
    """What a client needs to find us, and how to tell that we live."""
    addresses = config.management_ips()
    _, port = config.endpoint()
    identity = Identity.of(os.getpid())
    shown = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
    return {
        "api_url": f"https://{shown}:{port}/api/",
        "management_ips": addresses,
        "port": port,
        "ca_file": str(ca_file),
        "durability": config.durability,
        "edge_tls": config.edge_tls,
        "username": ADMINISTRATOR,
        "password_file": str(directory.password_file),
        "vpool_guid": inventory.vpool_guid,
        "vpool_name": config.vpool,
        "pid": identity.pid,
        "start_time": identity.start_time,
        "boot_id": identity.boot_id,
    }


@contextlib.contextmanager
def _listen(config: ServiceConfig) -> Iterator[socket.socket]:
    """The API's socket, bound early so that a taken port is noticed before anything is touched.

    The protocol is named because asyncio sets TCP_NODELAY only on sockets that carry it: without that an answer's body
    waits 40 ms for the acknowledgement of its headers.
    """
    host, port = config.endpoint()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with CountedListener(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.limit = config.connections_per_address
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            reason = {
                errno.EADDRINUSE: "another process listens there",
                errno.EADDRNOTAVAIL: "this machine has no such address",
                errno.EACCES: "only root may use ports below 1024",
            }.get(error.errno or 0, error.strerror)
            raise PoolError(f"can not listen on {config.listen}: {reason}; choose with --listen HOST:PORT") from error
        yield listener


class _Server(TimelyServer):
    """The API's server without signal handling of its own, which would end the process before we have tidied up."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def renew_certificate(self) -> None:
        """Use the certificate that is in the files now for the next connections."""
        if self.config.ssl is not None:
            self.config.ssl.load_cert_chain(str(self.config.ssl_certfile), str(self.config.ssl_keyfile))


@contextlib.contextmanager
def _ends_on_signal(server: uvicorn.Server, operations: Operations) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def end() -> None:
        server.should_exit = True
        operations.stop_waiting()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
