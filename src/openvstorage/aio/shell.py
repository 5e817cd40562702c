"""Shell: one ``openstack`` process that takes command after command, as a user's interactive session does.

A process for each command would spend three seconds on imports and log-in before anything happens.
"""

from __future__ import annotations

import json
import secrets
import shlex
import subprocess
import threading
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import IO, Any

from openvstorage.aio.credentials import VOLUME_API
from openvstorage.aio.errors import AioError
from openvstorage.aio.supervisor import base_environment

__all__ = ["OpenStackShell", "ShellError"]

_SECONDS = 120.0


class ShellError(AioError):
    """The ``openstack`` client said something on its standard error, ended, or did not come back in time."""

    template = "{command}: {reason}"


class OpenStackShell:
    """The ``openstack`` client of an environment, logged in as a cloud of a ``clouds.yaml``. For one thread.

    :param program: path of ``openstack``.
    :param clouds: the ``clouds.yaml``.
    :param cloud: name in there.

    The process starts with the first command. Use it as a context manager, so that it ends.
    """

    def __init__(self, program: str, clouds: Path, cloud: str) -> None:
        self._argv = [program]
        self._environment = {
            **base_environment(),
            "OS_CLIENT_CONFIG_FILE": str(clouds),
            "OS_CLOUD": cloud,
            "OS_VOLUME_API_VERSION": VOLUME_API,
            # Else what it prints waits in a buffer while the end mark, printed by another process, overtakes it.
            "PYTHONUNBUFFERED": "1",
            "HOME": str(clouds.parent),
        }
        self._process: subprocess.Popen[str] | None = None
        self._output: Queue[str | None] = Queue()
        self._errors: Queue[str | None] = Queue()

    def __enter__(self) -> OpenStackShell:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def run(self, *words: str) -> str:
        """Run a command and return its standard output. Blocks.

        Raises ShellError when it wrote anything to its standard error: that is how this client tells of a failure.
        """
        command = shlex.join(words)
        process = self._started()
        mark = f"end-{secrets.token_hex(8)}"
        if process.stdin is None:
            raise ShellError(command=command, reason="the client has no input")
        try:
            # Quoted, because the client would take ";" and ">" for its own.
            process.stdin.write(f"{command}\nshell sh -c 'echo {mark}; echo {mark} >&2'\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise ShellError(command=command, reason="the client has ended") from None
        output = self._until(mark, self._output, command)
        errors = self._until(mark, self._errors, command)
        if errors.strip():
            raise ShellError(command=command, reason=errors.strip())
        return output

    def ask(self, *words: str) -> Any:
        """Run a command with ``-f json`` and return what it printed, parsed. Blocks. Raises ShellError."""
        output = self.run(*words, "-f", "json")
        try:
            return json.loads(output)
        except json.JSONDecodeError:
            raise ShellError(command=shlex.join(words), reason=output.strip() or "it printed nothing") from None

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
                text=True,
            )
            for stream, queue in ((self._process.stdout, self._output), (self._process.stderr, self._errors)):
                threading.Thread(target=_pump, args=(stream, queue), daemon=True).start()
        return self._process

    def _until(self, mark: str, queue: Queue[str | None], command: str) -> str:
        lines: list[str] = []
        while True:
            try:
                line = queue.get(timeout=_SECONDS)
            except Empty:
                raise ShellError(command=command, reason=f"no answer within {_SECONDS:.0f} seconds") from None
            if line is None:
                raise ShellError(command=command, reason="the client has ended\n" + "".join(lines))
            if line.strip() == mark:
                return "".join(lines)
            lines.append(line)


def _pump(stream: IO[str], queue: Queue[str | None]) -> None:
    for line in stream:
        queue.put(line)
    queue.put(None)
