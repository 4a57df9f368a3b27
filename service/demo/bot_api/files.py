"""The files that people sent: `getFile` tells where one lies, and from there it is fetched."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from service.demo.bot_api.refusal import Json, Refused

_LARGEST = 20 * 2**20
_PLACES = {
    "photo": ("photos", "jpg", "image/jpeg"),
    "document": ("documents", "bin", "application/octet-stream"),
    "voice": ("voice", "oga", "audio/ogg"),
    "audio": ("music", "mp3", "audio/mpeg"),
}


@dataclass(frozen=True, slots=True)
class Stored:
    """One file as the server keeps it."""

    id: str
    path: str
    data: bytes

    def as_json(self) -> Json:
        """What messages and `getFile` tell of it."""
        return {
            "file_id": self.id,
            "file_unique_id": f"u{self.id}",
            "file_size": len(self.data),
        }


class Files:
    """Every file that was ever sent to the bot."""

    def __init__(self) -> None:
        self._numbers = count()
        self._by_id: dict[str, Stored] = {}

    def send(self, kind: str, data: bytes, *, name: str, media_type: str) -> Json:
        """Keep a file; return what the message that brings it tells. Raises ValueError."""
        if kind not in _PLACES:
            raise ValueError(f"kind: one of {', '.join(_PLACES)} is needed")
        folder, suffix, usual = _PLACES[kind]
        number = next(self._numbers)
        kept = Stored(f"FILE{number:04}", f"{folder}/file_{number}.{suffix}", data)
        self._by_id[kept.id] = kept
        if kind == "photo":
            return {"photo": [{**kept.as_json(), "width": 640, "height": 480}]}
        told = {**kept.as_json(), "mime_type": media_type or usual}
        if name:
            told["file_name"] = name
        return {kind: told if kind == "document" else {**told, "duration": 1}}

    def find(self, params: Json) -> Json:
        """Where a file lies. Raises Refused."""
        kept = self._by_id.get(str(params.get("file_id")))
        if kept is None:
            raise Refused(400, "wrong file_id or the file is temporarily unavailable")
        if len(kept.data) > _LARGEST:
            raise Refused(400, "file is too big")
        return {**kept.as_json(), "file_path": kept.path}

    def read(self, path: str) -> bytes:
        """What lies there. Raises Refused."""
        for kept in self._by_id.values():
            if kept.path == path:
                return kept.data
        raise Refused(404)
