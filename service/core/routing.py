"""Which session a post to a webhook belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from service.core.prompt import Prompt
from service.errors import BadInput


def session_key(webhook: str, session: str | Prompt, values: Mapping[str, Any]) -> str | None:
    """The key for `new` (none), `fixed` (one per webhook) or a template over the post.

    What a template makes is hashed: senders choose it, so it may be long or look like another key.
    Raises BadInput when it makes nothing.
    """
    if isinstance(session, Prompt):
        made = session.render(values).strip()
        if not made:
            raise BadInput("session: the key template made an empty key of this post")
        # Not "replace": half a surrogate pair must not lead into the session of another half.
        digest = hashlib.sha256(made.encode("utf-8", "surrogatepass"))
        return f"hook:{webhook}:{digest.hexdigest()}"
    return None if session == "new" else f"hook:{webhook}"
