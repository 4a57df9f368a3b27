"""The token of a turn: lets whoever rang read that turn's result, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac

from service.core.model import TurnId
from service.store import tokens as store
from service.store.database import Database


class TurnTokens:
    """Derives tokens from a key of the database, so that a turn always has the same one."""

    def __init__(self, key: bytes) -> None:
        self._mac = hmac.new(key, b"turn:", hashlib.sha256)

    @classmethod
    async def load(cls, database: Database) -> TurnTokens:
        """Read the key; the first process to ask makes it."""
        return cls(await database.write(store.turn_key))

    def issue(self, turn: TurnId) -> str:
        """The token of this turn."""
        mac = self._mac.copy()
        mac.update(turn.encode("utf-8", "surrogatepass"))
        return "rbt_" + base64.urlsafe_b64encode(mac.digest()).rstrip(b"=").decode()

    def verify(self, turn: TurnId, token: str) -> bool:
        """Whether `token` belongs to `turn`; takes as long whatever it is given."""
        given = token.encode("utf-8", "surrogateescape")
        return hmac.compare_digest(self.issue(turn).encode(), given)
