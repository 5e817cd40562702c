"""The API's certificate: another one is used without a restart."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import uvicorn

from openvstorage.vpool.access import authority
from openvstorage.vpool.service import _Server


async def _no_app(scope: object, receive: object, send: object) -> None:
    """Nobody gets so far."""


def shown_certificate(server_side: ssl.SSLContext, ca_file: Path) -> bytes:
    """What a client of a server with that context sees, in DER."""
    client_side = ssl.create_default_context(cafile=str(ca_file))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)
    return client.getpeercert(binary_form=True) or b""


def test_the_next_connection_sees_the_new_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "KEY_BITS", 2048)  # seconds matter here, not strength
    files = authority.ensure(tmp_path, ["127.0.0.1"])
    config = uvicorn.Config(_no_app, ssl_certfile=files.certificate, ssl_keyfile=files.key, log_config=None)
    config.load()
    assert config.ssl is not None
    server = _Server(config)
    before = shown_certificate(config.ssl, files.ca_file)
    files.certificate.unlink()
    authority.ensure(tmp_path, ["127.0.0.1"])
    assert shown_certificate(config.ssl, files.ca_file) == before
    server.renew_certificate()
    after = shown_certificate(config.ssl, files.ca_file)
    assert after != before
    assert after == ssl.PEM_cert_to_DER_cert(files.certificate.read_text())
