"""uWSGI: how the APIs of OpenStack's services are served."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from openvstorage.aio.environment import Environment
from openvstorage.aio.supervisor import Program, Supervisor

__all__ = ["answers", "serve", "uwsgi_program"]

# Requests must not go through a proxy: the services listen on loopback.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def uwsgi_program(
    name: str,
    environment: Environment,
    module: str,
    port: int,
    *,
    variables: Mapping[str, str] | None = None,
    arguments: str = "",
    options: tuple[str, ...] = (),
    processes: int = 2,
    version: str,
    files: tuple[Path, ...] = (),
    stop_stage: int = 0,
) -> Program:
    """Return the program that serves a WSGI application on a port of 127.0.0.1.

    :param module: ``package.module``; its ``application`` is served.
    :param variables: environment variables that tell the application where its configuration is.
    :param arguments: command line that the application sees, for those that read one.
    :param options: more of uWSGI's own.
    :param processes: how many serve it; each imports it for itself.
    :param version: a text that changes when its code does.
    :param files: its configuration files.
    :param stop_stage: see :class:`Program`.
    """
    return Program(
        name=name,
        argv=(
            *(environment.program("uwsgi"), "--http-socket", f"127.0.0.1:{port}", "--module", f"{module}:application"),
            *("--master", "--processes", str(processes), "--threads", "4", "--enable-threads"),
            *("--lazy-apps", "--need-app"),
            *("--thunder-lock", "--buffer-size", "65535", "--so-keepalive", "--add-header", "Connection: close"),
            # Glance's client sends images in parts of 1 MiB, which is a few bytes more than uWSGI takes by itself.
            *("--chunked-input-limit", str(16 * 1024**2), "--chunked-input-timeout", "60"),
            # Workers die with their master, even when it is killed.
            *("--no-orphans", "--disable-logging", "--log-master"),
            *options,
            *(("--pyargv", arguments) if arguments else ()),
        ),
        environment=variables or {},
        files=files,
        version=version,
        # On SIGTERM uWSGI reloads.
        stop_signal=signal.SIGINT,
        stop_stage=stop_stage,
    )


def serve(supervisor: Supervisor, program: Program, url: str, *others: Program) -> str:
    """Start an API and the services beside it; blocks until the API answers.

    :param program: as :func:`uwsgi_program` gives it.
    :param url: answers as soon as it serves.
    :param others: services that are started too, and not waited for.
    :returns: a word about what was done. Raises ProgramFailed.
    """
    started = [supervisor.start(each) for each in (program, *others)]
    supervisor.wait_ready(program.name, lambda: answers(url))
    return "started" if any(started) else "running"


def answers(url: str) -> bool:
    """Whether a server answers there with anything but an error of its own. Blocks up to 20 seconds."""
    try:
        with _OPENER.open(url, timeout=20) as response:
            return bool(response.status < 500)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
