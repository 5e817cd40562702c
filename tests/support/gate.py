"""A gate: one more management address of a vPool service, which can die, come back, and hold single calls.

It ends TLS with a certificate of its own, so that it sees what passes: a call can be stopped before the service has
it, or after the service has done it and before the caller learns of that.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

__all__ = ["Gate", "Hold", "Passing", "When"]

When = Literal["before", "after"]

_SECRETS = re.compile(r'"(?:access_token|secret)": ?"((?:[^"\\]|\\.)+)"')
_DROPPED = {"host", "connection", "content-length", "transfer-encoding"}


@dataclass(frozen=True)
class Passing:
    """A call at the gate.

    :ivar path: with the query, from ``/api/`` on. :ivar body: decoded JSON, empty for anything else.
    """

    method: str
    path: str
    body: dict[str, Any]


@dataclass(eq=False)
class Hold:
    """The first call that ``match`` accepts is stopped, ``before`` the service has it or ``after`` it has answered.

    :ivar reached: set once a call stands there.
    """

    match: Callable[[Passing], bool]
    when: When
    reached: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def takes(self) -> bool:
        """Tell whether a call that is meant is the first of them, at whichever gate it comes."""
        with self._lock:
            if self.reached.is_set():
                return False
            self.reached.set()
            return True


class Gate:
    """Passes calls from ``address``:``port`` on to a service on 127.0.0.1. Use it by ``with``; it begins alive.

    :param port: 0 for any free one. :param certificate: PEM file with key and certificate for the address.
    :ivar secrets: every token and grant secret that has passed.
    :ivar passed: how many calls have been answered.
    """

    def __init__(self, address: str, port: int, certificate: Path, service_port: int, service_ca: str) -> None:
        self.address = address
        self.port = port
        self.secrets: set[str] = set()
        self.passed = 0
        self._service_port = service_port
        self._towards_service = ssl.create_default_context(cafile=service_ca)
        self._towards_caller = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._towards_caller.load_cert_chain(certificate)
        self._lock = threading.Lock()
        self._holds: list[Hold] = []
        self._opened = threading.Event()
        self._server: _Server | None = None

    def __enter__(self) -> Gate:
        self.live()
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        self.die()

    def live(self) -> None:
        """Accept connections."""
        self._server = _Server(self, (self.address, self.port), self._towards_caller)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def die(self) -> None:
        """Refuse connections and cut those that are there, whatever is on its way over them."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            server.cut()

    def stop(self, hold: Hold) -> None:
        """Stop the call that is meant, until ``open``."""
        with self._lock:
            self._opened.clear()
            self._holds.append(hold)

    def open(self) -> None:
        """Drop what is held before the service, let go what is held after it, and hold nothing any more."""
        with self._lock:
            self._holds.clear()
            self._opened.set()

    def exchange(self, call: Passing, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes] | None:
        """Carry a call to the service and give its answer; None for one that is dropped."""
        meant = self._meant(call)
        if _stopped(meant, "before"):
            self._opened.wait()
            return None
        upstream = http.client.HTTPSConnection(
            "127.0.0.1", self._service_port, timeout=600, context=self._towards_service
        )
        try:
            upstream.request(call.method, call.path, body or None, headers)
            response = upstream.getresponse()
            answer = response.read()
        finally:
            upstream.close()
        self._note(headers, answer)
        if _stopped(meant, "after"):
            self._opened.wait()
        return response.status, dict(response.getheaders()), answer

    def _meant(self, call: Passing) -> list[Hold]:
        """Find the holds that a call is meant by, before the service has it: then it may be about what is gone."""
        with self._lock:
            holds = [hold for hold in self._holds if not hold.reached.is_set()]
        return [hold for hold in holds if hold.match(call)]

    def _note(self, headers: dict[str, str], answer: bytes) -> None:
        found = {json.loads(f'"{text}"') for text in _SECRETS.findall(answer.decode(errors="replace"))}
        found |= {value.removeprefix("Bearer ") for name, value in headers.items() if value.startswith("Bearer ")}
        with self._lock:
            self.secrets |= found
            self.passed += 1


def _stopped(meant: list[Hold], when: When) -> bool:
    return any(hold.takes() for hold in meant if hold.when == when)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, gate: Gate, address: tuple[str, int], context: ssl.SSLContext) -> None:
        self.gate = gate
        self._context = context
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def cut(self) -> None:
        with self._lock:
            for each in self._sockets:
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # The other end was faster.

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the connection's own thread, so that a slow handshake keeps nobody waiting.
        with self._lock:
            self._sockets.add(request)
        try:
            with self._context.wrap_socket(request, server_side=True) as secure:
                with self._lock:
                    self._sockets.add(secure)
                super().finish_request(secure, client_address)
        except OSError:
            pass  # The caller has gone, as a killed one does.
        finally:
            with self._lock:
                self._sockets = {each for each in self._sockets if each.fileno() != -1}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of callers: they die here on purpose."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def _pass(self) -> None:
        assert isinstance(self.server, _Server)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _DROPPED}
        try:
            decoded = json.loads(body) if body else {}
        except ValueError:
            decoded = {}
        call = Passing(self.command, self.path, decoded if isinstance(decoded, dict) else {})
        answer = self.server.gate.exchange(call, headers, body)
        if answer is None:
            self.close_connection = True
            return
        status, received, content = answer
        self.send_response_only(status)
        for name, value in received.items():
            if name.lower() not in _DROPPED:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
