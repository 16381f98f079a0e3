"""The whole error tree, drawn in one place.

Building-time errors stop a command. Request-time errors (`GatewayError`) carry everything a client
needs: an HTTP status, OpenAI's error type, a code from a closed vocabulary and, where a field is to
blame, its name. Whether another model may still succeed is a property of the error (`moves_on`), so
delivery never guesses.

    PointsmanError
    ├── ConfigError        the YAML is wrong; carries every problem found
    ├── ArtifactError      a router artifact or encoder is missing, truncated or of another version
    ├── DataError          an outcome file is wrong
    ├── KeySecretError     what key hashes are keyed with is missing or no use
    ├── DatabaseError      the database can't be used: its address, or a schema from the future
    └── GatewayError
        ├── CallerError    the request is wrong: 4xx, code caller_*
        ├── PolicyError    the request is right and may not be served now: code policy_*
        ├── UpstreamError  one attempt failed: code upstream_*
        └── GatewayFault   our fault or our limits: 5xx, code gateway_*
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class PointsmanError(Exception):
    """Root of everything Pointsman raises on purpose."""


# --- building time ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a config file: where it stands, what is wrong, and what would be valid."""

    file: str
    line: int | None
    path: str
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        hint = f" ({self.hint})" if self.hint else ""
        return (
            f"{place}: {self.path}: {self.message}{hint}"
            if self.path
            else f"{place}: {self.message}{hint}"
        )


class ConfigError(PointsmanError):
    """The configuration can't be compiled; `problems` lists every mistake at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class ArtifactError(PointsmanError):
    """A router artifact or encoder directory can't be used; the message says why and what to do."""


class DataError(PointsmanError):
    """An outcome file can't be read; the message names file, row and field."""


class KeySecretError(PointsmanError):
    """The key secret can't be had or kept; the message says what to do."""


class DatabaseError(PointsmanError):
    """The database can't be used as configured; the message says why and what to do."""


# --- request time -----------------------------------------------------------------------


class GatewayError(PointsmanError):
    """A request-time error that a client sees in OpenAI's envelope."""

    status = 500
    type = "server_error"
    code = "gateway_internal"
    moves_on = False
    """True if the next model of the plan may still serve the request."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = tuple(headers)


class CallerError(GatewayError):
    """The request is wrong in a way that only the caller can mend."""

    status = 400
    type = "invalid_request_error"
    code = "caller_invalid_request"


class InvalidJSON(CallerError):
    code = "caller_invalid_json"


class InvalidField(CallerError):
    """A field is missing, of the wrong type or out of range; `param` names it."""

    code = "caller_invalid_field"


class BodyTooLarge(CallerError):
    status = 413
    code = "caller_body_too_large"


class BodyTooSlow(CallerError):
    status = 408
    code = "caller_body_too_slow"


class UnknownModel(CallerError):
    status = 404
    type = "not_found_error"
    code = "caller_unknown_model"


class UnknownPath(CallerError):
    status = 404
    type = "not_found_error"
    code = "caller_unknown_path"


class MethodNotAllowed(CallerError):
    status = 405
    code = "caller_method_not_allowed"


class KeyRefused(CallerError):
    """No key, or none that is valid now. The code is the one that OpenAI's clients know."""

    status = 401
    code = "invalid_api_key"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=[("www-authenticate", "Bearer")])


class UnknownKey(KeyRefused):
    """No key is known by this text; the database may have one that has not been read yet."""

    def __init__(self) -> None:
        super().__init__("This key is not valid.")


class OutOfScope(CallerError):
    """The key is valid and not for this; the message says what it is for."""

    status = 403
    type = "permission_error"
    code = "caller_out_of_scope"


class ForeignOrigin(CallerError):
    """A web page of somebody else's asks, through the browser of who runs an open gateway."""

    status = 403
    type = "permission_error"
    code = "caller_foreign_origin"


class UnknownKeyId(CallerError):
    status = 404
    type = "not_found_error"
    code = "caller_unknown_key"


class FixedKey(CallerError):
    """A revoked key can't be changed, and one of the YAML only there."""

    status = 409
    code = "caller_key_is_fixed"


class UnknownRequest(CallerError):
    """No such request in the ledger, or no longer."""

    status = 404
    type = "not_found_error"
    code = "caller_unknown_request"


class NoDatabase(CallerError):
    status = 409
    code = "caller_no_database"


class ConfigRefused(CallerError):
    """The configuration that was to be loaded is wrong, or needs a restart; the one before goes
    on. The message is what `pointsman check` says."""

    status = 422
    code = "caller_config_refused"


class NotCached(CallerError):
    """The caller wants an answer from the cache or none, and there is none."""

    status = 504
    code = "caller_not_cached"


class NoEligibleCandidate(CallerError):
    """No model of the route can serve this request; the message gives each one's reasons."""

    code = "caller_no_eligible_model"


class PolicyError(GatewayError):
    """The request is right, and what the operator has laid down forbids it."""

    status = 403
    type = "permission_error"
    code = "policy_refused"


class LimitReached(PolicyError):
    """A limit has no room for the request. `limit` says which one: its scope and its key in the
    YAML, as in `route:auto requests_per_minute`; never a key or its id."""

    status = 429
    type = "rate_limit_error"
    code = "policy_rate_limited"

    def __init__(self, message: str, *, limit: str, headers: Sequence[tuple[str, str]]) -> None:
        super().__init__(message, headers=[*headers, ("x-pointsman-limit", limit)])
        self.limit = limit


class TooManyAtOnce(LimitReached):
    code = "policy_too_many_at_once"


class BudgetReserved(LimitReached):
    """Requests that still run hold what is left of a budget; it may be free again in a moment."""

    code = "policy_budget_reserved"


class BudgetExhausted(LimitReached):
    """What is left of a budget does not cover the request. 429 and `insufficient_quota`, as OpenAI
    says it and its SDKs know it; retrying is of no use before the period is over."""

    type = "insufficient_quota"
    code = "policy_budget_exhausted"


class UpstreamError(GatewayError):
    """One attempt failed. The client sees one of these only when the whole plan has failed."""

    status = 502
    type = "upstream_error"
    code = "upstream_error"
    moves_on = True
    outcome = "error"
    """Label of the attempt in metrics and records."""
    charged = False
    """The request had been sent and was not refused: the provider may well charge for it."""
    again = False
    """The same deployment may be asked again: it has surely not done the work."""
    blames = True
    """It counts against the health of the deployment."""
    wait_seconds: float | None = None
    """For how long the upstream asked to be left alone."""


class ConnectFailed(UpstreamError):
    """No connection: nothing was sent, nothing can have been charged."""

    code = "upstream_unreachable"
    outcome = "connect_failed"
    again = True


class StaleConnection(UpstreamError):
    """A kept connection turned out to be closed: the same model may be asked again, once."""

    code = "upstream_cut"
    outcome = "stale"
    blames = False


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"
    outcome = "timeout"
    charged = True


class UpstreamCut(UpstreamError):
    """The connection broke after the request was sent: before or in the middle of the answer."""

    code = "upstream_cut"
    outcome = "cut"
    charged = True


class MalformedReply(UpstreamError):
    """The upstream answered 200 with something that is not a chat completion."""

    code = "upstream_malformed"
    outcome = "malformed"
    charged = True


class UpstreamRejectedKey(UpstreamError):
    """401 or 403: the gateway's own credentials are wrong; another upstream may still serve."""

    code = "upstream_rejected_key"
    outcome = "rejected_key"


class UpstreamNotFound(UpstreamError):
    """404: the configured model id or base URL is wrong; another upstream may still serve."""

    code = "upstream_not_found"
    outcome = "not_found"


class UpstreamRateLimited(UpstreamError):
    status = 429
    type = "rate_limit_error"
    code = "upstream_rate_limited"
    outcome = "rate_limited"
    again = True
    blames = False


class UpstreamServerError(UpstreamError):
    code = "upstream_server_error"
    outcome = "server_error"
    again = True


class UpstreamReportedError(UpstreamServerError):
    """An error that came as an event of a stream that had begun well."""

    outcome = "failed"
    charged = True


class UpstreamRefusedRequest(UpstreamError):
    """A 4xx about the request itself, which goes to the client as the upstream wrote it.

    Final where every other model would say the same; a request that is too large or too long for
    one model may fit another.
    """

    status = 400
    type = "invalid_request_error"
    code = "upstream_refused_request"
    outcome = "refused_request"
    blames = False

    def __init__(self, message: str, *, status: int, body: bytes, moves_on: bool) -> None:
        super().__init__(message)
        self.status = status
        self.body = body
        self.moves_on = moves_on


class ContextTooLong(UpstreamRefusedRequest):
    """The request is longer than the model's window; one with a larger window may serve it.

    `window` is in tokens, where the upstream told it.
    """

    code = "upstream_context_too_long"

    def __init__(self, message: str, *, status: int, body: bytes, window: int | None) -> None:
        super().__init__(message, status=status, body=body, moves_on=True)
        self.window = window


class ContentRefused(UpstreamRefusedRequest):
    """The provider refuses what the request is about; whether others are asked is the route's
    rule."""

    code = "upstream_content_refused"

    def __init__(self, message: str, *, status: int, body: bytes) -> None:
        super().__init__(message, status=status, body=body, moves_on=False)


class GatewayFault(GatewayError):
    """A failure of Pointsman's own."""


class GatewayStopping(GatewayFault):
    """The process ends, and the request outlasted the time it was given; another one may serve."""

    status = 503
    code = "gateway_stopping"
    outcome = "stopped"
    """How a stream is booked that was cut off for this."""

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=[("retry-after", "1"), ("connection", "close")])


class Overloaded(GatewayFault):
    """As many requests as this process may serve are being served, and as many wait."""

    status = 503
    code = "gateway_overloaded"


class LedgerUnavailable(GatewayFault):
    """The ledger can't be read now. Requests are served all the same."""

    status = 503
    code = "gateway_ledger_unavailable"


class KeysUnavailable(GatewayFault):
    """The database that may know a key can't be reached in time: neither valid nor not."""

    status = 503
    code = "gateway_keys_unavailable"

    def __init__(self, message: str) -> None:
        super().__init__(message, headers=[("retry-after", "1")])
