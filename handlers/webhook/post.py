"""What somebody posted to a webhook, and the ring that the webhook's templates make of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from handlers.forms import described
from handlers.webhook.hook import Hook
from service.core.model import Channel, NewAttachment, Origin, Ring, Role
from service.core.routing import session_key
from service.engine.controls import Controls
from service.errors import BadInput

UNFIT = "unfit:"
"""Begins the key under which a post is kept that the templates did not fit."""


@dataclass(frozen=True, slots=True)
class Post:
    """What a request brought, taken apart."""

    body: bytes
    values: Mapping[str, Any]
    """What the templates see."""
    files: tuple[NewAttachment, ...] = ()

    @property
    def kept(self) -> bytes:
        """What is kept as received; of a post with files all but their bytes, kept elsewhere.

        So the same files are the same post, whatever boundary the sender made up this time.
        """
        if not self.files:
            return self.body
        kept = {"body": self.values["body"], "files": [described(one) for one in self.files]}
        return json.dumps(kept, ensure_ascii=False).encode()


def ring_of(hook: Hook, key: str, post: Post, *, strict: bool) -> Ring:
    """The ring of a post. Raises BadInput when the templates do not fit it."""
    text = hook.prompt.render(post.values)
    if not text.strip() and not post.files:
        raise BadInput("prompt: the template made an empty text of this post")
    return Ring(
        channel=Channel.WEBHOOK,
        source=hook.name,
        event_key=key,
        text=text,
        binding=hook.binding,
        author=f"webhook:{hook.name}",
        session_key=session_key(hook.name, hook.session, post.values),
        role=Role.EVENT,
        body=post.kept,
        answer_to=hook.answer_to,
        strict_body=strict,
        origin=Origin.EVENT,
        attachments=post.files,
        cast=hook.cast,
        schema=hook.begins.schema,
        scan=hook.begins.scan,
        investigation=hook.begins.investigation,
        owner=hook.begins.owner,
    )


async def directed(hook: Hook, ring: Ring, post: Post, controls: Controls) -> Ring:
    """The ring for the voice that the payload names as `target`, if it does.

    Only where sessions are gone on with: the words call the voice by its name, so that everybody
    in the session sees who was meant. Raises BadInput when nobody is called so.
    """
    payload = post.values.get("payload")
    target = payload.get("target") if isinstance(payload, dict) else None
    if not hook.directs or not isinstance(target, str) or ring.session_key is None:
        return ring
    names = await _names(hook, ring.session_key, controls)
    wanted = target.strip().removeprefix("@").casefold()
    found = next((name for name in names if name.casefold() == wanted), None)
    if found is None:
        raise BadInput(f"target: there is no such voice; there are: {', '.join(names)}")
    return replace(ring, text=f"@{found} {ring.text}")


async def _names(hook: Hook, key: str, controls: Controls) -> list[str]:
    """Who may be meant: the voices of the session that speak, or those it will begin with."""
    async with controls.steps() as steps:
        session = await steps.session_of(key=key)
        company = None if session is None else await steps.company(session)
    if company is not None:
        return [one.voice.name for one in company.voices if one.voice.active]
    return [one.name for one in hook.cast.voices] if hook.cast else []


def had_files(kept: bytes) -> bool:
    """Whether this was kept of a post with files, whose bytes are gone."""
    try:
        value = json.loads(kept)
    except (ValueError, RecursionError):
        return False
    if not isinstance(value, dict) or set(value) != {"body", "files"}:
        return False
    files = value["files"]
    return isinstance(files, list) and all(
        isinstance(one, dict) and set(one) == {"name", "media_type", "size", "sha256"}
        for one in files
    )
