"""People with passwords and cookies, and a browser that shows them to a site."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from service.core.access import UserRole
from service.store import users
from service.store.users import Holder
from tests.console.site import Site
from tests.webhook.site import Answer

PASSWORD = "correct horse battery"


@cache
def hashed() -> str:
    """The hash of the password that everybody here has."""
    return users.hashed(PASSWORD)


async def add_person(site: Site, name: str = "ann", role: UserRole = UserRole.OPERATOR) -> None:
    """Let somebody sign in."""
    stored = await asyncio.to_thread(hashed)
    at = datetime.now(UTC)
    await site.engine.database.write(users.add, name, stored, role, at=at)


async def cookie_of(
    site: Site,
    name: str = "ann",
    role: UserRole = UserRole.OPERATOR,
    *,
    lasts: timedelta = timedelta(hours=1),
) -> str:
    """Make a person who is signed in; the value of the cookie."""
    await add_person(site, name, role)
    at = datetime.now(UTC)
    return await site.engine.database.write(
        users.begin, Holder("user", name), role, at=at, lasts=lasts
    )


@dataclass(frozen=True)
class Browser:
    """Calls a site as its own pages do."""

    site: Site
    cookie: str | None = None

    @property
    def origin(self) -> str:
        """What our own pages say they are."""
        return f"http://127.0.0.1:{self.site.port}"

    @property
    def headers(self) -> dict[str, str]:
        """What a browser adds to each call of a page."""
        shown = {"Cookie": f"ringback={self.cookie}"} if self.cookie else {}
        return {"Origin": self.origin, "Sec-Fetch-Site": "same-origin", **shown}

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Call the API; headers that are given come in place of the browser's."""
        sent = {**self.headers, **(headers or {})}
        return await self.site.call(method, path, body, sent, token=None)

    async def sign_in(self, **given: str) -> Answer:
        """Sign in with JSON."""
        return await self.call("POST", "/signin", given)


def cookie_in(answer: Answer) -> str:
    """The value of the cookie that an answer sets."""
    return answer.headers["Set-Cookie"].partition(";")[0].partition("=")[2]
