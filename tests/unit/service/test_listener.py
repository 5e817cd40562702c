"""The API's listening socket."""

import asyncio
import socket

from tests.support.patience import PATIENCE

from openvstorage.vpool import service
from openvstorage.vpool.config import ServiceConfig


async def test_connections_send_without_waiting_for_acknowledgements() -> None:
    """Else an answer's body waits 40 ms for the acknowledgement of its headers."""
    accepted: asyncio.Queue[int] = asyncio.Queue()

    async def connected(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.put_nowait(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with service._listen(ServiceConfig(listen=f"127.0.0.1:{_free_port()}")) as listener:
        async with await asyncio.start_server(connected, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            try:
                assert await asyncio.wait_for(accepted.get(), PATIENCE) == 1
            finally:
                writer.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
