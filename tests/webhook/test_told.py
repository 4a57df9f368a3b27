"""What operators are told of webhooks when the service starts."""

from __future__ import annotations

import asyncio
from pathlib import Path

from structlog.testing import capture_logs

from service.app import open_app
from service.config import load

CONFIG = """
[database]
url = "{url}"

[agents.assistant]
provider = "offline"
model = "echo"

[providers.offline]
kind = "offline"

[webhooks.anybody]
agent = "assistant"
auth = "none"

[webhooks.proven]
agent = "assistant"
auth = {{ scheme = "bearer", secret = "file:{secret}" }}
"""


async def test_open_webhooks_are_named_at_the_start(sqlite_url: str, tmp_path: Path) -> None:
    """Those that anybody may ring, and no others."""
    secret, file = tmp_path / "secret", tmp_path / "ringback.toml"
    secret.write_text("a-secret-of-the-test", "utf-8")
    file.write_text(CONFIG.format(url=sqlite_url, secret=secret), "utf-8")

    with capture_logs() as logs:
        async with asyncio.timeout(60), open_app(load(file), port=0, channels=False):
            pass

    named = [one["webhook"] for one in logs if one["event"] == "webhook.open"]
    assert named == ["anybody"]
