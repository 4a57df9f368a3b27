"""Forms with files: what they hold, what they are refused for, and how files are named."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from handlers.forms import (
    Form,
    as_download,
    declared_name,
    extension,
    file_name,
    is_form,
    media_type,
    parse_form,
)
from handlers.http import BodyLimits, HttpProblem

LIMITS = BodyLimits(bytes=1000, depth=8, read=timedelta(seconds=5), file_bytes=2000, files=3)
TYPE = "multipart/form-data; boundary=b"


def part(head: str, content: bytes = b"x") -> bytes:
    """One part, with its boundary before it."""
    return b"--b\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


def field(name: str, content: bytes = b"x") -> bytes:
    """A field."""
    return part(f'Content-Disposition: form-data; name="{name}"', content)


def file(name: str, content: bytes = b"x", type_: str = "image/png") -> bytes:
    """A file."""
    head = f'Content-Disposition: form-data; name="f"; filename="{name}"\r\nContent-Type: {type_}'
    return part(head, content)


END = b"--b--\r\n"


def read(body: bytes, type_: str = TYPE) -> Form:
    """The form in a body."""
    return parse_form(type_, body, LIMITS)


def test_a_form_is_its_fields_and_files_in_order() -> None:
    """Bytes stay as they are, also those that look like an end of a line or a boundary."""
    content = b"\r\n--\r\n--a\r\n\r\n\x00\xff--b\r\n"

    form = read(field("a", "ä".encode()) + file("x.png", content) + field("a", b"") + END)

    assert form.fields == (("a", "ä"), ("a", ""))
    assert [(one.name, one.media_type, one.data, one.size) for one in form.files] == [
        ("x.png", "image/png", content, len(content))
    ]


def test_an_empty_form_holds_nothing() -> None:
    """Only its last boundary is there."""
    assert read(b"--b--") == Form((), ())


def test_what_stands_before_and_after_a_form_counts_for_nothing() -> None:
    """Some senders say something to old mail readers."""
    form = read(b"This is a form.\r\n" + field("a") + b"--b--\r\nThe end.")

    assert form == Form((("a", "x"),), ())


def test_a_file_that_was_not_chosen_is_none() -> None:
    """Browsers send a part without name and bytes for an empty input."""
    assert read(file("", b"", "application/octet-stream") + END).files == ()


def test_a_blob_is_a_text_where_one_is_wanted() -> None:
    """Browsers give a file name to every blob, also to JSON."""
    head = 'Content-Disposition: form-data; name="message"; filename="blob"'

    form = parse_form(TYPE, part(head, b"{}") + END, LIMITS, texts={"message"})

    assert form == Form((("message", "{}"),), ())


def test_boundaries_may_be_quoted() -> None:
    """As they must be when they hold more than letters."""
    body = b'--a b:c\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--a b:c--'

    form = read(body, 'Multipart/Form-Data; charset=utf-8; BOUNDARY="a b:c"')

    assert form == Form((("a", "x"),), ())


@pytest.mark.parametrize(
    ("type_", "body"),
    [
        ("multipart/form-data", field("a") + END),
        ("multipart/form-data; boundary=", field("a") + END),
        ("multipart/form-data; boundary=" + "b" * 71, field("a") + END),
        ('multipart/form-data; boundary="b\t"', field("a") + END),
        ("multipart/form-data; boundary=c", field("a") + END),
        (TYPE, b""),
        (TYPE, b"b"),
        (TYPE, b"--"),
        (TYPE, b"--b"),
        (TYPE, b"--b\r\n"),
        (TYPE, b"--bx" + field("a")[3:] + END),
        (TYPE, field("a")),
        (TYPE, field("a") + b"--b"),
        (TYPE, field("a")[:-2]),
        (TYPE, b"--b\r\n\r\nx\r\n" + END),
        (TYPE, b"--b\r\nno header\r\n\r\nx\r\n" + END),
        (TYPE, b"--b\r\n: no name\r\n\r\nx\r\n" + END),
        (TYPE, b"--b\r\n\xff: x\r\n\r\nx\r\n" + END),
        (TYPE, part("Content-Type: text/plain") + END),
        (TYPE, part("Content-Disposition: form-data") + END),
        (TYPE, part('Content-Disposition: form-data; name=""') + END),
        (TYPE, part('Content-Disposition: attachment; name="a"') + END),
        (TYPE, part('Content-Disposition: form-data; name="' + "a" * 5000 + '"') + END),
        (TYPE, part("X: y\r\n" * 1000 + 'Content-Disposition: form-data; name="a"') + END),
        (TYPE, file("a", b"x", "multipart/mixed; boundary=c") + END),
        (
            TYPE,
            part('Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64')
            + END,
        ),
        (TYPE, field("a", b"\xff") + END),
        (TYPE, file("a.png", b"") + END),
    ],
)
def test_what_is_no_form_is_refused(type_: str, body: bytes) -> None:
    """Nothing is guessed: half a form could be half a file."""
    with pytest.raises(HttpProblem) as caught:
        read(body, type_)

    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (file("a.png", b"x" * 2001) + END, "the file 'a.png' has more than 2000 bytes"),
        (file("a.png") * 4 + END, "at most 3 files"),
        (field("a", b"x" * 600) * 2 + END, "the fields may have at most 1000 bytes together"),
        (field("a", b"") * 1000 + END, "at most 100 fields"),
    ],
)
def test_too_much_of_it_is_refused(body: bytes, detail: str) -> None:
    """The answer says how much is taken."""
    with pytest.raises(HttpProblem) as caught:
        read(body)

    assert caught.value.status == 413
    assert detail in caught.value.detail


def test_a_crafted_form_costs_no_more_than_a_plain_one() -> None:
    """Many almost-boundaries, and one huge header of quotes, are read in a breath."""
    almost = file("a", b"\r\n--" * 400_000) + END
    quotes = part('Content-Disposition: form-data; name="' + '\\"' * 2000) + END

    began = time.thread_time()
    for body in (almost, quotes, b"\r\n--" * 400_000):
        with pytest.raises(HttpProblem):
            read(body)

    assert time.thread_time() - began < 1


# -- names and types ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("report.pdf", "report.pdf"),
        ("C:\\fakepath\\report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("a\r\nSet-Cookie: x", "aSet-Cookie: x"),
        ("a\x00b", "a\ufffdb"),
        ("/", "file"),
        ("", "file"),
        ("  ", "file"),
        ("ä" * 300, "ä" * 200),
    ],
)
def test_a_file_is_called_by_the_last_part_of_its_path(given: str, expected: str) -> None:
    """Nothing in it leads anywhere or breaks a header."""
    assert file_name(given) == expected


@pytest.mark.parametrize(
    ("disposition", "expected"),
    [
        ("form-data; name=a", None),
        ('form-data; name="a"; filename="b c.png"', "b c.png"),
        ("form-data; name=a; filename=b.png", "b.png"),
        ('form-data; name=a; filename="a \\"b\\".png"', 'a "b".png'),
        ("form-data; name=a; filename=x; filename*=UTF-8''na%C3%AFve.txt", "naïve.txt"),
        ("form-data; name=a; filename=x; filename*=latin-1''na%EFve.txt", "x"),
        ("form-data; name=a; filename*=broken", None),
    ],
)
def test_names_are_read_from_the_disposition(disposition: str, expected: str | None) -> None:
    """As browsers, curl and mail programs write them."""
    assert declared_name(disposition) == expected


@pytest.mark.parametrize(
    ("declared", "name", "expected"),
    [
        ("image/png", "a.pdf", "image/png"),
        ("IMAGE/PNG; q=1", "a", "image/png"),
        ("", "a.pdf", "application/pdf"),
        ("application/octet-stream", "a.mp3", "audio/mpeg"),
        ("application/octet-stream", "a", "application/octet-stream"),
        ("nonsense", "data:text/html,x", "application/octet-stream"),
        ("text/html\r\nX: y", "a", "application/octet-stream"),
    ],
)
def test_a_type_is_declared_or_told_by_the_name(declared: str, name: str, expected: str) -> None:
    """What is no media type does not become one."""
    assert media_type(declared, name) == expected


def test_a_type_tells_how_a_name_ends() -> None:
    """For files that come without a name."""
    assert [extension(one) for one in ("image/png", "x/y")] == [".png", ""]


def test_a_download_never_becomes_a_page() -> None:
    """It is saved under its name, whatever it says it is."""
    headers = as_download('x"\r\n.html', "text/html")

    assert headers["Content-Type"] == "text/html"
    assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''x%22.html"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("sandbox")


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        (TYPE, True),
        ("Multipart/Form-Data", True),
        ("multipart/mixed; boundary=b", False),
        ("application/x-www-form-urlencoded", False),
        ("", False),
    ],
)
def test_only_one_type_is_a_form(type_: str, expected: bool) -> None:
    """Others are read as before."""
    assert is_form(type_) is expected
