"""What a server's tools are called here: names that every provider takes, the same every time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

_UNFIT = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST = 64
_DIGEST = 8


def prefix(server: str) -> str:
    """What the names of all tools of `server` begin with, as far as they are not cut."""
    return _UNFIT.sub("_", f"{server}_")


def offered_name(server: str, tool: str, servers: Collection[str]) -> str:
    """The name of a tool among those of all `servers`.

    It depends on nothing that changes between two starts, such as which server answered first:
    a name that was mended, or could be another server's, ends with a digest of where it is from.
    """
    plain = f"{server}_{tool}"
    name = _UNFIT.sub("_", plain)
    if name == plain and len(name) <= _LONGEST and not _could_be_of_another(name, server, servers):
        return name
    digest = hashlib.sha256(f"{server}\0{tool}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"{name[: _LONGEST - _DIGEST - 1]}_{digest[:_DIGEST]}"


def _could_be_of_another(name: str, server: str, servers: Collection[str]) -> bool:
    """Whether "a_b_c" of the server "a" may as well be the tool "c" of a server "a_b"."""
    longer = (other for other in servers if len(other) > len(server))
    return any(name.startswith(prefix(other)) for other in longer)
