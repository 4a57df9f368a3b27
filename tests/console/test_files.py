"""Files of messages over the API: sent in a form or in JSON, listed, and fetched again."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from service.core.model import AttachmentId, NewAttachment, SessionId
from service.store import attachments, sessions
from service.store.database import Database
from tests.console.site import TOKEN, Site, serving
from tests.fakes import ScriptedAgents
from tests.webhook.site import Answer, exchange

PIXEL = b"\x89PNG\r\n\x1a\n\x00\xff" * 10
NOBODY = "01900000-0000-7000-8000-000000000000"


def form(message: object, *files: tuple[str, bytes, str]) -> aiohttp.FormData:
    """A message with files, as a browser sends it."""
    made = aiohttp.FormData()
    made.add_field("message", json.dumps(message), content_type="application/json")
    for name, data, type_ in files:
        made.add_field("file", data, filename=name, content_type=type_)
    return made


async def send(
    site: Site, session: str, body: object, headers: Mapping[str, str] | None = None
) -> Answer:
    """Post a message."""
    return await site.call("POST", f"/api/sessions/{session}/messages", body, headers)


async def files_of(site: Site, session: str) -> list[Mapping[str, Any]]:
    """The files of the first message."""
    said = (await site.get(f"/api/sessions/{session}/messages")).json["messages"]
    found: list[Mapping[str, Any]] = said[0]["attachments"]
    return found


async def test_files_of_a_form_come_with_the_message(database: Database) -> None:
    """They are listed with it in their order, and come back byte by byte."""
    agents = ScriptedAgents(media_types=frozenset({"image/png"}))
    async with serving(database, agents) as site:
        session = await site.session()
        sent = form({"text": "Look!"}, ("a.png", PIXEL, "image/png"), ("b.txt", b"hi", ""))
        answer = await send(site, session, sent, {"Prefer": "wait=60"})
        files = await files_of(site, session)
        fetched = [await site.get(one["url"]) for one in files]

    assert (answer.status, answer.json["state"]) == (200, "succeeded")
    assert [(one["name"], one["media_type"], one["size"]) for one in files] == [
        ("a.png", "image/png", len(PIXEL)),
        ("b.txt", "text/plain", 2),
    ]
    assert [one.body for one in fetched] == [PIXEL, b"hi"]
    assert [one.data for one in agents.prompts[0].history[0].media] == [PIXEL]


async def test_small_files_may_stand_in_the_json(site: Site) -> None:
    """In base64, for those who have no form at hand."""
    session = await site.session()
    data = base64.b64encode(PIXEL).decode()

    answer = await send(
        site, session, {"text": "Look!", "attachments": [{"name": "a.png", "data": data}]}
    )
    files = await files_of(site, session)

    assert answer.status == 202
    assert [(one["name"], one["media_type"]) for one in files] == [("a.png", "image/png")]
    assert (await site.get(files[0]["url"])).body == PIXEL


async def test_a_file_says_enough_without_words(site: Site) -> None:
    """The text may be left out, but not be something else."""
    session = await site.session()
    file = ("a.png", PIXEL, "image/png")

    answers = [
        await send(site, session, form({}, file)),
        await send(site, session, form({"text": 5}, file)),
        await send(site, session, form({})),
    ]

    assert [one.status for one in answers] == [202, 400, 400]


async def test_the_same_files_are_the_same_message(site: Site) -> None:
    """Every client makes up another boundary for a repeat; another file is another message."""
    session = await site.session()
    key = {"Idempotency-Key": "k"}
    sent = [PIXEL, PIXEL, PIXEL + b"!"]

    answers = [
        await send(site, session, form({"text": "x"}, ("a.png", one, "image/png")), key)
        for one in sent
    ]

    assert [one.status for one in answers] == [202, 200, 422]


@pytest.mark.parametrize(
    ("files", "detail"),
    [
        ([("a", b"x" * 8193, "image/png")], "the file 'a' has more than 8192 bytes"),
        ([("a", b"x", "image/png")] * 4, "at most 3 files"),
        ([("a", b"x" * 8192, "image/png")] * 5, "the body may have at most"),
    ],
)
async def test_too_many_or_too_large_files_are_refused(
    site: Site, files: list[tuple[str, bytes, str]], detail: str
) -> None:
    """The answer says how much is taken; nothing is stored."""
    session = await site.session()

    answer = await send(site, session, form({"text": "x"}, *files))

    assert answer.status == 413
    assert detail in answer.json["detail"]
    assert (await site.get(f"/api/sessions/{session}/messages")).json["messages"] == []


async def test_a_form_needs_its_message(site: Site) -> None:
    """Exactly one part of that name, which is an object."""
    session = await site.session()
    none, twice, other, broken = (aiohttp.FormData() for _ in range(4))
    none.add_field("file", PIXEL, filename="a.png")
    for value in ("{}", "{}"):
        twice.add_field("message", value, content_type="application/json")
    other.add_field("text", "hi", content_type="text/plain")
    broken.add_field("message", "[1]", content_type="application/json")

    answers = [await send(site, session, one) for one in (none, twice, other, broken)]

    assert [one.status for one in answers] == [400] * 4
    assert all("message: " in one.json["detail"] for one in answers)


@pytest.mark.parametrize(
    ("type_", "body"),
    [
        ("multipart/form-data", b"--b--"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"X: y\r\n" * 500),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 150 + b"--b--",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n'
            b"Content-Type: multipart/mixed; boundary=c\r\n\r\n--c--\r\n--b--",
        ),
        ("multipart/mixed; boundary=b", b"--b--"),
    ],
)
async def test_hostile_forms_are_refused(site: Site, type_: str, body: bytes) -> None:
    """Without boundary, without end, nested, in a thousand parts: a problem, never a break."""
    answer = await send(site, await site.session(), body, {"Content-Type": type_})

    assert 400 <= answer.status < 500


async def test_a_form_without_end_is_cut_off(site: Site) -> None:
    """Who declares more than is taken is told so before they have sent it."""
    session = await site.session()
    head = (
        f"POST /api/sessions/{session}/messages HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {TOKEN}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n"
        "Content-Length: 99999999999\r\n\r\n"
    )

    async with asyncio.timeout(60):
        answer = await exchange(site.port, head.encode() + b"--b\r\n")

    assert answer.status == 413


# -- fetching -------------------------------------------------------------------------------------


async def test_a_file_is_saved_and_never_shown(site: Site) -> None:
    """A page that somebody sent in must not run under our address."""
    session = await site.session()
    await send(site, session, form({"text": "x"}, ("x.html", b"<script>", "text/html")))

    answer = await site.get((await files_of(site, session))[0]["url"])

    assert answer.body == b"<script>"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''x.html"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"


async def test_a_file_that_is_not_here_is_not_found(site: Site) -> None:
    """Its bytes may still be with its channel."""
    session = await site.session()
    await site.finished(session)
    remote = await site.engine.database.write(_add_remote, SessionId(session))

    answers = [await site.get(f"/api/attachments/{one}") for one in (remote, NOBODY, "x", "%00")]

    assert [one.status for one in answers] == [404] * 4


def _add_remote(conn: Any, session: SessionId) -> AttachmentId:
    last = sessions.history(conn, session, after=0, limit=1)[0]
    file = NewAttachment("far.png", "image/png", remote="somewhere", size=5)
    return attachments.insert(conn, session, last.number, [file], at=last.at)[0].id
