"""A TCP proxy that loses answers: the request arrives and is done, the client never learns."""

import socket
import threading


class LossyProxy:
    """Passes bytes between clients and one server on loopback, TLS and all. Use it by ``with``.

    :ivar port: where it listens on 127.0.0.1.
    :ivar lost: how many answers it has lost.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._to_lose = 0
        self.lost = 0
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> "LossyProxy":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in [self._listener, *self._sockets]:
            each.close()

    def lose(self, answers: int) -> None:
        """Lose the next answers: whatever the server sends next closes the connection instead."""
        with self._lock:
            self._to_lose = answers

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets += [client, server]
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65536):
                if answers and self._loses():
                    break
                target.sendall(data)
        except OSError:
            pass  # Either end closed: so does the other, below.
        for each in (source, target):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _loses(self) -> bool:
        with self._lock:
            if self._to_lose == 0:
                return False
            self._to_lose -= 1
            self.lost += 1
            return True
