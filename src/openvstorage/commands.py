"""What the ``openvstorage`` command can do; each subcommand says one sentence when it can not."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from openvstorage import __version__
from openvstorage.aio.commands import app as aio_app
from openvstorage.contract.durability import Durability
from openvstorage.vpool.access import authority
from openvstorage.vpool.access.errors import AccessError
from openvstorage.vpool.backends.base import BackendError
from openvstorage.vpool.config import ConfigError, ServiceConfig
from openvstorage.vpool.exports.errors import ExportsError
from openvstorage.vpool.pool import PoolDirectory, PoolError
from openvstorage.vpool.service import ServeOptions
from openvstorage.vpool.service import serve as serve_pool
from openvstorage.vpool.status import status as pool_status

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Open vStorage for OpenStack.")
app.add_typer(aio_app, name="aio")
Data = Annotated[Path, typer.Option("--data", help="Directory of the vPool.", file_okay=False)]


@app.command()
def serve(
    data: Data,
    listen: Annotated[str | None, typer.Option(help="Address of the management API, HOST:PORT.")] = None,
    edge_host: Annotated[str | None, typer.Option(help="Address on which vDisks are served.")] = None,
    edge_tls: Annotated[
        bool | None,
        typer.Option(
            "--edge-tls/--no-edge-tls",
            help="Serve vDisks with TLS (the default), or, on loopback, to every user of this machine.",
        ),
    ] = None,
    vpool: Annotated[str | None, typer.Option(help="Name of the vPool; fixed at the first start.")] = None,
    token_calls: Annotated[int | None, typer.Option(min=0, help="Logins per address and minute; 0: no limit.")] = None,
    strict_compat: Annotated[
        bool | None, typer.Option("--strict-compat/--no-strict-compat", help="Refuse to delete what has children.")
    ] = None,
    durability: Annotated[
        Durability | None, typer.Option(help="What survives a death, for vDisks that do not say it; see the docs.")
    ] = None,
    write_through: Annotated[bool | None, typer.Option("--write-through/--no-write-through", hidden=True)] = None,
    database: Annotated[str | None, typer.Option(help="SQLAlchemy URL; default: SQLite in the directory.")] = None,
    qemu_dir: Annotated[str | None, typer.Option(help="Where QEMU's programs are; default: the PATH.")] = None,
    accept_database: Annotated[bool, typer.Option(help="Take a database that is older than the directory.")] = False,
    debug: Annotated[bool, typer.Option(help="Log more.")] = False,
) -> None:
    """Serve a vPool in the foreground. What is given here is remembered for the next start."""
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for chatty in ("aiosqlite", "qemu.qmp", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if write_through is not None:
        logging.warning(
            "--write-through is not needed any more: --durability acknowledged, the default, is what it was; "
            "--durability flushed is faster and keeps what was flushed"
        )
    given: dict[str, Any] = {
        "listen": listen,
        "edge_host": edge_host,
        "edge_tls": edge_tls,
        "vpool": vpool,
        "token_calls": token_calls,
        "strict_compat": strict_compat,
        "durability": durability and durability.value,
        "database": database,
        "qemu_dir": qemu_dir,
    }
    try:
        config = ServiceConfig.load(data).changed(given)
        asyncio.run(serve_pool(ServeOptions(data, config, accept_database=accept_database)))
    except (ConfigError, PoolError, ExportsError, AccessError, BackendError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or data}: {error.strerror}")


@app.command()
def status(data: Data, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Tell where the service is and whether it answers; exit status 1 if it does not."""
    try:
        state = pool_status(data)
    except (PoolError, AccessError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or data}: {error.strerror}")
    if as_json:
        typer.echo(json.dumps(state, indent=2))
    else:
        table = Table(show_header=False)
        for key, value in state.items():
            text = ", ".join(value) if isinstance(value, list) else str(value)
            table.add_row(key, text if key != "edge_tls" or value else f"{text}: {_PLAIN_EDGE}")
        Console().print(table)
    if not state["healthy"]:
        raise typer.Exit(1)


_PLAIN_EDGE = "every user of this machine can read and write all vDisks, until 'serve --edge-tls'"


@app.command()
def enroll(
    host: Annotated[str, typer.Argument(help="Name of the host: for a hypervisor, Nova's `host`.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Directory for the certificate; nothing is overwritten.", file_okay=False)],
) -> None:
    """Issue the certificate by which a host may open the vDisks that are attached to it."""
    try:
        ends = authority.issue_client(PoolDirectory(data).tls, host, out)
    except (AccessError, ValueError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or out}: {error.strerror}")
    typer.echo(_ENROLLED.format(host=host, out=out.absolute(), ends=ends.date()))


_ENROLLED = """\
{out} has the certificate of host {host} (client-cert.pem, client-key.pem, ca-cert.pem). It ends on {ends}.
Whoever has the key is that host to the storage: take the directory to another host over a safe way only.

It opens the vDisks that this host has a grant of, by the grant's URI or its host, port and export name:
    nbdinfo 'URI?tls-certificates={out}'
    qemu-img info --object tls-creds-x509,id=tls,endpoint=client,dir={out} \\
        --image-opts driver=nbd,host=HOST,port=PORT,export=NAME,tls-creds=tls
For libvirt and its guests: put the three files into a directory of their own, such as /etc/pki/qemu/nbd, where the user
that QEMU runs as can read the key and nobody else can, say in /etc/libvirt/qemu.conf
    nbd_tls_x509_cert_dir = "/etc/pki/qemu/nbd"
and restart libvirtd or virtqemud; guests go on running.
For cinder-volume, cinder-backup and Glance: /etc/pki/openvstorage, or where openvstorage_edge_tls_dir says."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _fail(text: str) -> NoReturn:
    typer.echo(f"openvstorage: {text}", err=True)
    raise typer.Exit(1)
