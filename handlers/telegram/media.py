"""The files that messages bring: what each is called, what it is, and how it is fetched."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence

from handlers.telegram.raw import Raw, mapping
from service.core.model import NewAttachment
from service.errors import BadInput

LARGEST = 20 * 2**20
"""Telegram gives bots no file of more bytes."""

# Photos of more than this are not passed on by providers.
_LARGEST_PHOTO = 10 * 2**20
_UNKNOWN = "application/octet-stream"
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,60}/[a-z0-9][a-z0-9!#$&^_.+-]{0,80}")
_LONGEST_NAME = 200
# What these are when the message does not say so, and how they are called.
_SOUNDS = {"voice": ("audio/ogg", "voice.ogg"), "audio": ("audio/mpeg", "audio.mp3")}


def attached(message: Raw, most_bytes: int) -> NewAttachment | None:
    """The file that a message brings; None when it brings none. Raises BadInput."""
    if "photo" in message:
        return _photo(message["photo"], min(most_bytes, _LARGEST_PHOTO))
    if "document" in message:
        return _document(mapping(message["document"], "message.document"))
    for kind, (media_type, name) in _SOUNDS.items():
        if kind in message:
            told = mapping(message[kind], f"message.{kind}")
            return _file(told, f"message.{kind}", _name(told) or name, _type(told) or media_type)
    return None


def _photo(sizes: object, most_bytes: int) -> NewAttachment:
    """The largest size of a photo that may be taken; the smallest when none may."""
    if not isinstance(sizes, Sequence) or isinstance(sizes, str) or not sizes:
        raise BadInput("message.photo is not a list of sizes")
    told = [mapping(one, "message.photo[]") for one in sizes]
    fitting = [one for one in told if _size(one) <= most_bytes]
    best = max(fitting, key=_extent) if fitting else min(told, key=_extent)
    return _file(best, "message.photo[]", "photo.jpg", "image/jpeg")


def _document(told: Raw) -> NewAttachment:
    name = _name(told)
    guessed, _ = mimetypes.guess_type(name)
    return _file(told, "message.document", name or "file", _type(told) or guessed or _UNKNOWN)


def _file(told: Raw, where: str, name: str, media_type: str) -> NewAttachment:
    remote = told.get("file_id")
    if not isinstance(remote, str) or not remote:
        raise BadInput(f"{where}.file_id is not a text")
    return NewAttachment(name, media_type, remote=remote, size=_size(told))


def _size(told: Raw) -> int:
    size = told.get("file_size")
    return size if type(size) is int and size > 0 else 0


def _extent(told: Raw) -> tuple[int, int]:
    """How large a size of a photo is, in pixels and bytes."""
    sides = [one for one in (told.get("width"), told.get("height")) if isinstance(one, int)]
    return (sides[0] * sides[1] if len(sides) == 2 else 0), _size(told)


def _name(told: Raw) -> str:
    """What the sender's device calls the file, without a way to it; empty when it has no name."""
    name = told.get("file_name")
    if not isinstance(name, str):
        return ""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(one for one in last if one.isprintable()).strip()[-_LONGEST_NAME:]


def _type(told: Raw) -> str:
    """What the sender's device says it is; empty when that is no media type."""
    media_type = told.get("mime_type")
    if not isinstance(media_type, str):
        return ""
    plain = media_type.partition(";")[0].strip().lower()
    return plain if _MEDIA_TYPE.fullmatch(plain) else ""
