"""Files of messages: what they are, and their bytes, each content stored once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from service.core.model import Attachment, AttachmentId, NewAttachment, SessionId
from service.core.text import clean
from service.store.ids import new_id
from service.store.sql import insert_many, insert_new
from service.store.tables import attachments, blobs

_LONGEST_NAME = 200


def insert(
    conn: sa.Connection,
    session: SessionId,
    message: int,
    new: Sequence[NewAttachment],
    *,
    at: datetime,
) -> list[Attachment]:
    """Store the files of a message in their order, with their bytes if they came along."""
    digests = [_store(conn, one.data, at) if one.data is not None else None for one in new]
    made = [
        Attachment(
            AttachmentId(new_id()),
            clean(one.name)[:_LONGEST_NAME] or "file",
            one.media_type,
            len(one.data) if one.data is not None else one.size,
            one.remote,
        )
        for one in new
    ]
    insert_many(
        conn,
        attachments,
        [
            {
                "id": one.id,
                "session_id": session,
                "message_number": message,
                "position": position,
                "name": one.name,
                "media_type": one.media_type,
                "size": one.size,
                "digest": digest,
                "remote": one.remote,
                "created_at": at,
            }
            for position, (one, digest) in enumerate(zip(made, digests, strict=True))
        ],
    )
    return made


def fetched(conn: sa.Connection, attachment: AttachmentId, data: bytes, *, at: datetime) -> None:
    """Store the bytes of a file that its channel had kept."""
    digest = _store(conn, data, at)
    _update(conn, attachment, digest=digest, size=len(data))


def failed(conn: sa.Connection, attachment: AttachmentId, problem: str) -> None:
    """Note that the bytes of a file cannot be had."""
    _update(conn, attachment, problem=problem)


def of_messages(
    conn: sa.Connection, session: SessionId, numbers: Sequence[int]
) -> dict[int, tuple[Attachment, ...]]:
    """The files of these messages, by message number."""
    if not numbers:
        return {}
    found: dict[int, list[Attachment]] = {}
    query = (
        sa.select(attachments)
        .where(
            attachments.c.session_id == session,
            attachments.c.message_number >= min(numbers),
            attachments.c.message_number <= max(numbers),
        )
        .order_by(attachments.c.message_number, attachments.c.position)
    )
    for row in conn.execute(query):
        found.setdefault(row.message_number, []).append(_attachment(row))
    return {number: tuple(files) for number, files in found.items()}


def get(
    conn: sa.Connection, attachment: AttachmentId
) -> tuple[Attachment, bytes | None, SessionId] | None:
    """A file with its bytes, None while they are not here, and the session it belongs to."""
    row = conn.execute(
        sa.select(attachments, blobs.c.data)
        .outerjoin(blobs, attachments.c.digest == blobs.c.digest)
        .where(attachments.c.id == attachment)
    ).first()
    return None if row is None else (_attachment(row), row.data, SessionId(row.session_id))


def data_of(conn: sa.Connection, ids: Sequence[AttachmentId]) -> Mapping[AttachmentId, bytes]:
    """The bytes of those files that have theirs here."""
    rows = conn.execute(
        sa.select(attachments.c.id, blobs.c.data)
        .join(blobs, attachments.c.digest == blobs.c.digest)
        .where(attachments.c.id.in_(list(ids)))
    )
    return {AttachmentId(row.id): row.data for row in rows}


def prune(conn: sa.Connection, *, before: datetime, limit: int) -> int:
    """Drop contents that no file refers to any more; return how many went."""
    unused = (
        sa.select(blobs.c.digest)
        .where(
            blobs.c.created_at < before,
            ~sa.exists().where(attachments.c.digest == blobs.c.digest),
        )
        .limit(limit)
    )
    return conn.execute(blobs.delete().where(blobs.c.digest.in_(unused))).rowcount


def _store(conn: sa.Connection, data: bytes, at: datetime) -> bytes:
    digest = hashlib.sha256(data).digest()
    conn.execute(insert_new(conn, blobs), [{"digest": digest, "data": data, "created_at": at}])
    return digest


def _update(conn: sa.Connection, attachment: AttachmentId, **values: object) -> None:
    conn.execute(attachments.update().where(attachments.c.id == attachment).values(**values))


def _attachment(row: sa.Row[Any]) -> Attachment:
    return Attachment(
        AttachmentId(row.id), row.name, row.media_type, row.size, row.remote, row.problem
    )
