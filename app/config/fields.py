"""What the written form is made of: names, secrets, addresses and amounts, and what they may be."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    StringConstraints,
)
from yarl import URL

Name = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$", max_length=128)
]


def _secret(value: object) -> object:
    """A key as the environment gives it, often with a newline at its end."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not text:
        raise ValueError("is empty; leave it out, or set the variable it names")
    if text.startswith(("$", "os.environ/")):
        raise ValueError("is not filled in; write ${NAME} for an environment variable")
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be printable ASCII")
    return text


def _api_key(value: object) -> object:
    if isinstance(value, str) and value.strip().lower().startswith("bearer "):
        raise ValueError("must be the key alone: `Bearer` is added")
    return _secret(value)


def address(text: str, like: str) -> URL:
    """Raises ValueError, with one `like` it, for what is no address that requests can go to."""
    try:
        url = URL(text)
        usable = url.scheme in ("http", "https") and bool(url.host) and url.port is not None
    except ValueError:
        usable = False
    if not usable or url.user or url.password or url.query_string or url.fragment:
        raise ValueError(
            f"must be an http or https address without credentials or query, such as {like}"
        )
    return url


def _base_url(text: str) -> str:
    url = address(text, "https://api.openai.com/v1")
    if url.path.rstrip("/").endswith("/completions"):
        raise ValueError("must end before /chat/completions, which is added")
    return text


def _redis_url(value: object) -> object:
    text = _secret(value)
    if isinstance(text, str):
        try:
            url = URL(text)
            usable = url.scheme in ("redis", "rediss") and bool(url.host) and url.port != 0
            usable = usable or (url.scheme == "unix" and url.path.startswith("/"))
        except ValueError:
            usable = False
        if not usable:
            raise ValueError(
                "must be an address such as redis://127.0.0.1:6379/0, rediss:// for TLS, "
                "or unix:///path/to/socket"
            )
    return text


OWN_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding"}
)


def _header_name(name: str) -> str:
    if name.lower() in OWN_HEADERS:
        raise ValueError("is set by the gateway itself")
    return name


def _day(value: object) -> object:
    """A number would be taken for seconds."""
    if isinstance(value, int | float):
        raise ValueError("must be a date, such as 2026-07-01")
    return value


def _moment(value: object) -> object:
    """YAML knows dates and moments; JSON writes both as text. What has no zone is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        raise ValueError("must be a date or a moment, such as 2027-01-31 or 2027-01-31T12:00:00Z")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def _key_id(text: str) -> str:
    if re.fullmatch(_KEY_ID, text) is None:
        raise ValueError("must be 4 to 32 lower-case letters and digits")
    if text in ("admin", "none"):
        raise ValueError("is reserved: it stands for the admin key, or for none")
    return text


def _tag(text: str) -> str:
    if text == "none":
        raise ValueError("is reserved: sums are under it of what has no tag")
    return text


def _key_hash(text: str) -> str:
    if re.fullmatch(_KEY_HASH, text) is None:
        raise ValueError("must be a hash as `pointsman keys hash` makes it, never the key itself")
    return text


_KEY_ID = "^[a-z0-9]{4,32}$"
_KEY_HASH = "^blake2b:[0-9a-f]{8}:[0-9a-f]{64}$"
Secret = Annotated[SecretStr, BeforeValidator(_secret)]
ApiKey = Annotated[SecretStr, BeforeValidator(_api_key)]
BaseURL = Annotated[str, AfterValidator(_base_url)]
HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$"), AfterValidator(_header_name)
]
RedisURL = Annotated[SecretStr, BeforeValidator(_redis_url)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
UsdPerMillion = Annotated[Decimal, Field(ge=0, le=100_000, decimal_places=9)]
UsdPerRequest = Annotated[Decimal, Field(ge=0, le=1_000, decimal_places=9)]
TierName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Day = Annotated[date, BeforeValidator(_day)]
Dollars = Annotated[Decimal, Field(gt=0, le=1_000_000, decimal_places=9)]
Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
KeyId = Annotated[str, AfterValidator(_key_id), Field(json_schema_extra={"pattern": _KEY_ID})]
KeyHash = Annotated[
    str,
    AfterValidator(_key_hash),
    PlainSerializer(lambda _: "**********", when_used="json"),
    Field(json_schema_extra={"pattern": _KEY_HASH}),
]
TagName = Annotated[Name, AfterValidator(_tag)]
Names = Annotated[list[Name], Field(max_length=1000)]
Capability = Literal[
    "tools", "parallel_tools", "vision", "audio", "json_object", "json_schema", "logprobs", "files"
]


class Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
