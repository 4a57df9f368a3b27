"""Files over HTTP: multipart/form-data read strictly, and what a file is called and made of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from mimetypes import MimeTypes
from typing import Any, NoReturn
from urllib.parse import quote, unquote

from handlers.http import BodyLimits, HttpProblem, parse_text
from service.core.model import NewAttachment
from service.core.text import clean

UNKNOWN_TYPE = "application/octet-stream"
_FORM = "multipart/form-data"
_MOST_FIELDS = 100
_LONGEST_HEAD = 4096
_LONGEST_NAME = 200
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_PARAMETER = re.compile(r';\s*([A-Za-z]+\*?)\s*=\s*(?:"((?:[^"\\]|\\.)*+)"|([^\s;"]+))')
_ESCAPED = re.compile(r'\\(["\\])')
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,99}/[a-z0-9][a-z0-9!#$&^_.+-]{0,99}")
_NO_TEXT = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN = frozenset({"", "7bit", "8bit", "binary"})
_TYPES = MimeTypes()


@dataclass(frozen=True, slots=True)
class Form:
    """What a form held, in its order."""

    fields: tuple[tuple[str, str], ...]
    files: tuple[NewAttachment, ...]


@dataclass(frozen=True, slots=True)
class _Head:
    """What a part says of itself."""

    name: str
    filename: str | None
    content_type: str


def is_form(content_type: str) -> bool:
    """Whether a body of this type is a form that may hold files."""
    return content_type.partition(";")[0].strip().lower() == _FORM


def parse_form(
    content_type: str, body: bytes, limits: BodyLimits, *, texts: Collection[str] = ()
) -> Form:
    """Read a form. Raises HttpProblem 400 for what is none and 413 for too much of it.

    A part with a file name is a file, unless it is one of `texts`: browsers give names to every
    blob.
    """
    fields: list[tuple[str, str]] = []
    files: list[NewAttachment] = []
    room = limits.bytes
    for head, content in _parts(body, _boundary(content_type)):
        if head.filename is None or head.name in texts:
            room -= len(content)
            if room < 0:
                _too_large(f"the fields may have at most {limits.bytes} bytes together")
            if len(fields) == _MOST_FIELDS:
                _too_large(f"at most {_MOST_FIELDS} fields are taken")
            fields.append((head.name, parse_text(content)))
        elif head.filename or content:
            files.append(_file(head, content))
            check_files(files[-1:], limits)
            if len(files) > limits.files:
                _too_many(limits)
    return Form(tuple(fields), tuple(files))


def check_files(files: Collection[NewAttachment], limits: BodyLimits) -> None:
    """Raise HttpProblem 413 for too many or too large files, 400 for empty ones."""
    if len(files) > limits.files:
        _too_many(limits)
    for one in files:
        if not one.size:
            _bad(f"the file {one.name!r} is empty")
        if one.size > limits.file_bytes:
            _too_large(f"the file {one.name!r} has more than {limits.file_bytes} bytes")


def new_file(name: str, declared: str, data: bytes) -> NewAttachment:
    """A file as it is kept; without a type of its own it gets the one its name tells."""
    plain = file_name(name)
    return NewAttachment(plain, media_type(declared, plain), data=data, size=len(data))


def described(file: NewAttachment) -> dict[str, Any]:
    """A file without its bytes that is still told from every other one."""
    digest = hashlib.sha256(file.data or b"").hexdigest()
    return {
        "name": file.name,
        "media_type": file.media_type,
        "size": file.size,
        "sha256": digest,
    }


def file_name(given: str) -> str:
    """The last part of a path, without what no name should hold; "file" when nothing is left."""
    last = clean(given).replace("\\", "/").rpartition("/")[2]
    return _NO_TEXT.sub("", last).strip()[:_LONGEST_NAME] or "file"


def media_type(declared: str, name: str = "") -> str:
    """The declared type without its parameters, else what the name tells."""
    given = declared.partition(";")[0].strip().lower()
    if _MEDIA_TYPE.fullmatch(given) and given != UNKNOWN_TYPE:
        return given
    return _TYPES.guess_type(f"x/{name}")[0] or UNKNOWN_TYPE


def extension(type_: str) -> str:
    """How the name of a file of this type ends; empty when nobody knows."""
    return _TYPES.guess_extension(type_) or ""


def declared_name(disposition: str) -> str | None:
    """The file name of a Content-Disposition, if it has one."""
    parameters = _parameters(disposition)
    extended = parameters.get("filename*", "")
    charset, _, rest = extended.partition("'")
    if charset.lower() == "utf-8" and "'" in rest:
        return unquote(rest.partition("'")[2], errors="replace")
    return parameters.get("filename")


def as_download(name: str, type_: str) -> dict[str, str]:
    """Headers under which no browser shows or runs a stranger's file as a page of ours."""
    return {
        "Content-Type": media_type(type_),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file_name(name), safe='')}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "private, no-store",
    }


# -- parts ----------------------------------------------------------------------------------------


def _boundary(content_type: str) -> bytes:
    boundary = _parameters(content_type).get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        _bad("Content-Type: multipart/form-data needs its boundary, 1 to 70 characters")
    return boundary.encode()


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[_Head, bytes]]:
    """Yield the parts; one find per part, so that a crafted body costs no more than a plain one."""
    mark = b"--" + boundary
    at = 0 if body.startswith(mark) else body.find(b"\r\n" + mark) + 2
    if not body.startswith(mark, at):
        _bad("the form does not hold its boundary")
    at += len(mark)
    while not body.startswith(b"--", at):
        line = body.find(b"\r\n", at, at + _LONGEST_HEAD)
        if line < 0 or body[at:line].strip(b" \t"):
            _bad("the form is broken: a line ends in the middle of its boundary")
        end = body.find(b"\r\n\r\n", line, line + _LONGEST_HEAD)
        if end < 0:
            _bad(f"the form is broken: the headers of a part have at most {_LONGEST_HEAD} bytes")
        following = body.find(b"\r\n" + mark, end + 2)
        if following < 0:
            _bad("the form broke off: its last boundary is missing")
        yield _head(body[line + 2 : end]), body[end + 4 : following]
        at = following + 2 + len(mark)


def _head(head: bytes) -> _Head:
    headers: dict[str, str] = {}
    for line in parse_text(head).split("\r\n"):
        key, colon, value = line.partition(":")
        if not colon or not key.strip():
            _bad("the form is broken: a part has a header without a name")
        headers[key.strip().lower()] = value.strip()
    disposition = headers.get("content-disposition", "")
    parameters = _parameters(disposition)
    name = parameters.get("name")
    if disposition.partition(";")[0].strip().lower() != "form-data" or not name:
        _bad("the form is broken: a part needs Content-Disposition: form-data with a name")
    type_ = headers.get("content-type", "")
    if type_.lower().startswith("multipart/"):
        _bad(f"the form holds another one in {name[:_LONGEST_NAME]!r}; send every file by itself")
    if headers.get("content-transfer-encoding", "").lower() not in _PLAIN:
        _bad("Content-Transfer-Encoding: send the parts of a form as they are")
    return _Head(name, declared_name(disposition), type_)


def _parameters(header: str) -> Mapping[str, str]:
    return {
        name.lower(): _ESCAPED.sub(r"\1", quoted) if quoted else token
        for name, quoted, token in _PARAMETER.findall(header)
    }


def _file(head: _Head, content: bytes) -> NewAttachment:
    return new_file(head.filename or "", head.content_type, content)


def _bad(detail: str) -> NoReturn:
    raise HttpProblem(400, "Bad request", detail)


def _too_large(detail: str) -> NoReturn:
    raise HttpProblem(413, "Content too large", detail)


def _too_many(limits: BodyLimits) -> NoReturn:
    _too_large(f"at most {limits.files} files are taken with one message")
