"""What a voice is told of the conversation so far, within its budget of characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from service.core.model import Attachment, AttachmentId, Message, Role, VoiceId
from service.ports import Media, Said

_CUT_SHORT = "\n\n[This answer was stopped before it was complete.]"
_FAILED = "\n\n[This answer failed before it was complete.]"
_NOTES = {"partial": _CUT_SHORT, "error": _FAILED}
_SUMMARY = "[A summary of this conversation up to here]\n{summary}"


def fitting(messages: Sequence[Message], *, characters: int) -> list[Message]:
    """Return the newest messages that fit into `characters`, oldest first.

    The last one, which is to be answered, is always there; a history never begins with an
    answer whose question was cut off.
    """
    kept: list[Message] = []
    room = characters
    for message in reversed(messages):
        room -= len(message.text)
        if kept and room < 0:
            break
        kept.append(message)
    while len(kept) > 1 and kept[-1].role is Role.VOICE:
        kept.pop()
    return kept[::-1]


def said(
    messages: Sequence[Message],
    *,
    voice: VoiceId | None = None,
    summary: str | None = None,
    media: Mapping[AttachmentId, Media] | None = None,
) -> list[Said]:
    """The messages as the model gets them, with the files it can be given in `media`.

    With `voice` those of other voices come as somebody else's words, under their names.
    """
    before = [] if summary is None else [Said("user", _SUMMARY.format(summary=summary))]
    return before + [_said(message, voice, media or {}) for message in messages]


def _said(message: Message, voice: VoiceId | None, media: Mapping[AttachmentId, Media]) -> Said:
    if message.role is Role.VOICE:
        words = message.text + _NOTES.get(message.status, "")
        if voice is None or message.voice == voice:
            return Said("assistant", words)
        return Said("user", f"[{message.author}]: {words}")
    given = tuple(media[one.id] for one in message.attachments if one.id in media)
    left = [_not_given(one) for one in message.attachments if one.id not in media]
    return Said("user", "\n\n".join([*left, message.text]) if left else message.text, given)


def _not_given(one: Attachment) -> str:
    why = one.problem or "you cannot be shown files of this sort, or it is too far back"
    return f"[A file came with this message: {one.name} ({one.media_type}); {why}]"
