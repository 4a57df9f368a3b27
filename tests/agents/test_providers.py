"""Opening providers: the right library for each kind, and only that one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from service.agents.providers import open_provider
from service.config import Provider, Secret
from service.ports import Finished
from tests.agents.subjects import SERVERS, events, said
from tests.providers.server import KEY

LIBRARIES = {"openai": "openai", "anthropic": "anthropic", "google": "google.genai"}
# Everything in a process of its own: imports cannot be taken back.
OPEN = """
import asyncio, sys
from service.agents.providers import open_provider
from service.config import Provider
from service.errors import ConfigError
{before}
async def main():
    settings = Provider.model_validate({{"kind": {kind!r}, "base_url": "http://127.0.0.1:9"}})
    try:
        await open_provider("acme", settings).close()
    except ConfigError as error:
        print(error)
    else:
        print(*sorted({{"openai", "anthropic", "google.genai"}} & set(sys.modules)))
asyncio.run(main())
"""


def test_an_offline_service_loads_nothing() -> None:
    """It starts fast, and in little memory."""
    assert _opened("offline") == ""


@pytest.mark.parametrize(("kind", "library"), LIBRARIES.items())
def test_only_the_library_of_the_kind_is_loaded(kind: str, library: str) -> None:
    """They are big."""
    assert _opened(kind) == library


@pytest.mark.parametrize("kind", ["anthropic", "google"])
def test_a_missing_library_is_a_problem_of_the_configuration(kind: str) -> None:
    """It names the place and the fix."""
    said = _opened(kind, before=f"sys.modules[{LIBRARIES[kind]!r}] = None")

    assert said.startswith(f"providers.acme.kind: the library for '{kind}' is missing (")
    assert said.endswith(f"); install ringback[{kind}]")


async def test_the_offline_model_has_every_name() -> None:
    """It is the same one."""
    made = open_provider("acme", Provider(kind="offline"))

    got = await events(made.model("any"), said("Hello"))
    await made.close()

    assert isinstance(got[-1], Finished)


@pytest.mark.parametrize("kind", LIBRARIES)
async def test_an_opened_provider_answers(kind: str) -> None:
    """With the deadlines it has in production, which are none but for connecting."""
    async with SERVERS[kind]() as server:
        settings = {"kind": kind, "base_url": server.url, "api_key": Secret(KEY)}
        made = open_provider("acme", Provider.model_validate(settings))

        got = await events(made.model(server.model), said("Hello"))
        await made.close()

    assert isinstance(got[-1], Finished)


def _opened(kind: str, *, before: str = "") -> str:
    code = OPEN.format(kind=kind, before=before)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout.strip() or done.stderr.strip()
