"""Named leases for what only one process may do: one poller per bot."""

from __future__ import annotations

from dataclasses import dataclass

from service.engine.holds import LEASE
from service.store import leases as store
from service.store.database import Database


@dataclass(frozen=True, slots=True)
class Lease:
    """A name that is ours until somebody takes it after we failed to renew it."""

    name: str
    epoch: int


class Leases:
    """Takes, renews and releases named leases of 30 s; renew every 10 s."""

    def __init__(self, database: Database, *, owner: str) -> None:
        self._database = database
        self._owner = owner

    async def acquire(self, name: str) -> Lease | None:
        """Take the lease; None when somebody else holds it."""
        epoch = await self._database.write(store.acquire, name, owner=self._owner, lease=LEASE)
        return None if epoch is None else Lease(name, epoch)

    async def renew(self, lease: Lease) -> bool:
        """Keep the lease; False when it was lost."""
        return await self._database.write(store.renew, lease.name, epoch=lease.epoch, lease=LEASE)

    async def release(self, lease: Lease) -> None:
        """Let go, so that the next process need not wait."""
        await self._database.write(store.release, lease.name, epoch=lease.epoch)
