"""The one error of the scripted upstream: a request or a script that it will not take."""

from __future__ import annotations

from typing import Any

from app.errors import PointsmanError


class RequestRefused(PointsmanError):
    """Answered in OpenAI's envelope, in the words that OpenAI's own API would use."""

    def __init__(
        self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status

    def body(self) -> dict[str, Any]:
        return error_body(self.status, self.message, param=self.param, code=self.code)


def error_body(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """OpenAI's error envelope for a status."""
    kind = "server_error" if status >= 500 else _TYPES.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
