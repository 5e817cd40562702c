"""Commands: ``openvstorage aio up|down|status|tour|logs``."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from openvstorage.aio.cloud import Cloud
from openvstorage.aio.errors import AioError, UnknownProgram
from openvstorage.aio.horizon import Horizon
from openvstorage.aio.paths import Paths
from openvstorage.aio.tour import Tour
from openvstorage.aio.vpool import VPool
from openvstorage.client import OpenvStorageError
from openvstorage.edge.errors import CertificateUnusable

__all__ = ["app"]

app = typer.Typer(
    help="A real OpenStack on this machine, with a vPool as its volume backend.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_StateOption = Annotated[
    Path, typer.Option("--state", envvar="OPENVSTORAGE_AIO_STATE_DIR", help="Where the all-in-one keeps its things.")
]
_CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Where downloads are kept; 'cache' beside the state directory by default."),
]
_WheelOption = Annotated[
    Path | None, typer.Option("--wheel", exists=True, dir_okay=False, help="This project's wheel; built by default.")
]
_STATE = Path("var/aio")


@contextmanager
def _reported(console: Console) -> Iterator[None]:
    """Turn an expected error into its sentence and exit status 1."""
    try:
        yield
    except (AioError, OpenvStorageError, OSError) as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


@app.command()
def up(
    state: _StateOption = _STATE,
    cache: _CacheOption = None,
    wheel: _WheelOption = None,
    storage_only: Annotated[
        bool,
        typer.Option("--storage-only", help="Leave out Nova, Placement, Neutron and libvirt."),
    ] = False,
    edge_tls: Annotated[
        bool | None,
        typer.Option(
            "--edge-tls/--no-edge-tls",
            help="Serve vDisks with TLS, or plainly on loopback; default: as the last time, at first with TLS.",
        ),
    ] = None,
) -> None:
    """Bring the all-in-one up, or what is missing of it."""
    console = Console()
    with _reported(console):
        cloud = Cloud(Paths.of(state, cache), console, wheel)
        seconds = cloud.up(storage_only, edge_tls)
        console.print(f"The cloud is up; the slowest step took {max(seconds.values()):.0f} seconds.", highlight=False)
        console.print(
            f"Use it:  . {cloud.paths.state}/openrc && openstack volume list", highlight=False, soft_wrap=True
        )
        _tell_of_edge(cloud, console)
        _tell_of_horizon(cloud, console)


def _tell_of_edge(cloud: Cloud, console: Console) -> None:
    if not cloud.vpool.serves_tls:
        text = "plain NBD on loopback: every user of this machine can read and write all volumes"
        if not cloud.vpool.edge_tls:
            text += "; 'openvstorage aio up --edge-tls' ends that"
    else:
        certificates = cloud.certificates
        try:
            ends = min(certificates.ends(host) for host in certificates.hosts)
            text = f"TLS, with certificates until {ends.date()}; 'openvstorage aio up' issues them anew in time"
            if ends < datetime.now(UTC):
                text = f"TLS, but a certificate ended on {ends.date()}: 'openvstorage aio up' issues it anew"
        except CertificateUnusable as error:
            text = f"TLS, but {error}; 'openvstorage aio up' issues it anew"
    if cloud.vpool.edge_tls != cloud.vpool.serves_tls:
        wanted = "with" if cloud.vpool.edge_tls else "without"
        text += f"; it was told to be {wanted} TLS, which 'openvstorage aio up' completes"
    console.print(f"Edge: {text}", highlight=False, soft_wrap=True, markup=False)


def _tell_of_horizon(cloud: Cloud, console: Console) -> None:
    port = cloud.ports["horizon"]
    lines = (
        f"Horizon: {cloud.horizon.url}  user admin, password: OS_PASSWORD in {cloud.paths.state}/openrc",
        f"  from another machine:  ssh -N -L {port}:127.0.0.1:{port} root@{socket.gethostname()}  and the same address",
    )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


@app.command()
def down(
    state: _StateOption = _STATE,
    purge: Annotated[bool, typer.Option("--purge", help="Delete the state directory too.")] = False,
) -> None:
    """Stop everything the all-in-one started, and nothing else."""
    console = Console()
    with _reported(console):
        stopped = Cloud(Paths.of(state), console).down(purge)
        console.print(f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running.")


@app.command()
def status(
    state: _StateOption = _STATE,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show which programs run. The exit status is 0 when all of them do, else 3."""
    console = Console()
    with _reported(console):
        cloud = Cloud(Paths.of(state), console)
        programs = cloud.programs()
    if as_json:
        rows = [
            {"name": p.name, "pid": p.identity.pid if p.identity else None, "port": p.port, "log": str(p.log)}
            for p in programs
        ]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        table = Table("program", "state", "pid", "port", "log")
        for p in programs:
            pid, word = (str(p.identity.pid), "running") if p.identity else ("", "[red]ended[/]")
            table.add_row(p.name, word, pid, str(p.port or ""), os.path.relpath(p.log))
        console.print(table if programs else "The all-in-one is not up.")
        if any(p.name == VPool.name for p in programs):
            _tell_of_edge(cloud, console)
        if any(p.name == Horizon.name and p.identity for p in programs):
            _tell_of_horizon(cloud, console)
    if not programs or any(p.identity is None for p in programs):
        raise typer.Exit(3)


@app.command()
def tour(
    state: _StateOption = _STATE,
    cache: _CacheOption = None,
    report: Annotated[Path, typer.Option(help="Where the machine-readable report goes.")] = Path("var/demo.json"),
    storage_only: Annotated[bool, typer.Option("--storage-only", help="Leave out the steps with an instance.")] = False,
    corrupt: Annotated[bool, typer.Option("--corrupt-for-test", hidden=True)] = False,
) -> None:
    """Use the cloud as a user does, and show by independent evidence that it did what it said."""
    console = Console()
    with _reported(console):
        Tour(Cloud(Paths.of(state, cache), console), console, report, storage_only=storage_only, corrupt=corrupt).run()


@app.command()
def logs(
    program: Annotated[str, typer.Argument(help="As 'openvstorage aio status' names it.")],
    state: _StateOption = _STATE,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until interrupted.")] = False,
) -> None:
    """Show the end of a program's log."""
    console = Console()
    with _reported(console):
        paths = Paths.of(state)
        known = sorted(path.stem for path in paths.log.glob("*.log"))
        if program not in known:
            raise UnknownProgram(name=program, known=", ".join(known) or "none yet")
    os.execvp("tail", ["tail", "-n", str(lines), *(["-F"] if follow else []), str(paths.log / f"{program}.log")])
