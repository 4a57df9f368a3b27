"""Rings that an operator makes: a trial of a webhook, and another try with a post that was kept."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from handlers.http import BodyLimits, HttpProblem, parse_json
from handlers.webhook.hook import Hook
from handlers.webhook.post import UNFIT, Post, directed, had_files, ring_of
from service.core.model import Accepted, Refusal, RefusalReason
from service.engine.controls import Controls
from service.engine.intake import Intake
from service.errors import BadInput


@dataclass(frozen=True, slots=True)
class ByHand:
    """Rings webhooks without a signature: whoever may call this has proved to be an operator.

    Apart from that everything is as if somebody had posted, also what the turn may do.
    """

    hooks: Mapping[str, Hook]
    intake: Intake
    limits: BodyLimits
    controls: Controls

    async def ring(self, name: str, body: str, *, is_json: bool) -> Accepted | Refusal:
        """Try a webhook with a body. Raises BadInput when its templates do not fit that.

        The webhook must exist, and the body be JSON if it is said to be.
        """
        hook = self.hooks[name]
        raw = body.encode("utf-8", "replace")
        values = {**_absent(hook), "body": body}
        if is_json:
            values["payload"] = json.loads(body)
        post = Post(raw, values)
        ring = ring_of(hook, f"test:{uuid.uuid4()}", post, strict=False)
        return await self.intake.accept(await directed(hook, ring, post, self.controls))

    async def retry(self, name: str, key: str, kept: bytes) -> str | Refusal:
        """Try a post again that the templates did not fit; return the key that it has then.

        Raises BadInput when they still do not fit. It rings under the key that its sender gave
        it, so that it rings once even if the sender has posted it again meanwhile.
        """
        hook = self.hooks.get(name)
        if hook is None:
            raise BadInput(f"there is no webhook {name!r} any more")
        if had_files(kept):
            raise BadInput("the post had files, which were not kept: its sender has to post again")
        if hook.names & {"headers", "query"}:
            raise BadInput(
                "the templates look at headers or query, which were not kept: "
                "its sender has to post again"
            )
        own = key.removeprefix(UNFIT)
        post = self._post(hook, kept)
        ring = ring_of(hook, own, post, strict=own.startswith("key:"))
        outcome = await self.intake.accept(await directed(hook, ring, post, self.controls))
        if isinstance(outcome, Refusal) and outcome.reason is not RefusalReason.IGNORED:
            return outcome
        return own

    def _post(self, hook: Hook, kept: bytes) -> Post:
        values: dict[str, Any] = {"webhook": hook.name, "body": kept.decode("utf-8", "replace")}
        # Of what type it was is not kept; what does not read as JSON was none.
        with suppress(HttpProblem):
            values["payload"] = parse_json(kept, self.limits)
        return Post(kept, values)


def _absent(hook: Hook) -> dict[str, Any]:
    """What the templates see of headers and query when there was no request."""
    return {"webhook": hook.name, "headers": {}, "query": {}}
