"""Secrets of grants: what lets a host that has no account ask where its grant is served now.

A secret opens nothing else. It is worked out from the grant's guid and a key of the pool, so none is kept, and all
nodes of a pool agree on it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from openvstorage.vpool.model.cluster import Setting
from openvstorage.vpool.model.database import Database

__all__ = ["GrantSecrets"]

_SETTING = "grant_key"
_KEY_BYTES = 32


class GrantSecrets:
    """The secrets of a pool's grants.

    :param db: where the key is kept; it is made when the first secret is needed.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._key: bytes | None = None

    async def of(self, grant_guid: str) -> str:
        """:returns: the secret of a grant: 43 letters, digits, ``-`` and ``_``."""
        key = self._key = self._key or await self._read_key()
        digest = hmac.new(key, b"grant\0" + grant_guid.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    async def match(self, grant_guid: str, secret: str) -> bool:
        """:returns: whether ``secret`` is that of the grant; the time it takes says nothing."""
        known = await self.of(grant_guid)
        return hmac.compare_digest(known.encode(), secret.encode("utf-8", "surrogatepass"))

    async def _read_key(self) -> bytes:
        async with self._db.read() as session:
            setting = await session.get(Setting, _SETTING)
        if setting is None:
            async with self._db.write() as session:
                # Another request or node may have made it meanwhile; the write transaction tells.
                setting = await session.get(Setting, _SETTING)
                if setting is None:
                    setting = Setting(name=_SETTING, value={"key": secrets.token_hex(_KEY_BYTES)})
                    session.add(setting)
        return bytes.fromhex(setting.value["key"])
