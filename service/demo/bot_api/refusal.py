"""How the server says no: a status, a description with its prefix, and parameters."""

from __future__ import annotations

from typing import Any

from aiohttp import web

Json = dict[str, Any]

_PREFIXES = {400: "Bad Request: ", 403: "Forbidden: ", 409: "Conflict: "}
_USUAL = {
    401: "Unauthorized",
    404: "Not Found",
    413: "Request Entity Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    504: "Gateway Timeout",
}


class Refused(Exception):
    """The server says no; the prefix of the description follows from the status."""

    def __init__(self, status: int, description: str = "", **parameters: int) -> None:
        if status == 429 and not description:
            description = f"Too Many Requests: retry after {parameters.get('retry_after', 1)}"
        self.status = status
        self.description = description or _USUAL.get(status, "Refused")
        self.parameters = parameters
        super().__init__(self.description)

    def as_json(self) -> Json:
        """The body of the answer."""
        prefix = _PREFIXES.get(self.status, "")
        body: Json = {
            "ok": False,
            "error_code": self.status,
            "description": prefix + self.description.removeprefix(prefix),
        }
        return {**body, "parameters": self.parameters} if self.parameters else body

    def response(self) -> web.Response:
        """The answer; its HTTP status equals its error code, as clients rely on that."""
        seconds = self.parameters.get("retry_after")
        headers = {} if seconds is None else {"Retry-After": str(seconds)}
        return web.json_response(self.as_json(), status=self.status, headers=headers)
