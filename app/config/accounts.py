"""The written form of who may come in, what may be spent, and where it is kept."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    model_validator,
)

from app.config.fields import (
    Dollars,
    KeyHash,
    KeyId,
    Moment,
    Name,
    Names,
    RedisURL,
    TagName,
    Written,
)


class Limits(Written):
    """What may be spent and sent. What is left out is not limited."""

    usd_per_day: Dollars | None = Field(default=None, description="A UTC day.")
    usd_per_week: Dollars | None = Field(default=None, description="From Monday, UTC.")
    usd_per_month: Dollars | None = Field(default=None, description="A calendar month, UTC.")
    usd_in_all: Dollars | None = Field(default=None, description="Since the first request.")
    requests_per_minute: int | None = Field(default=None, ge=1, le=100_000_000)
    tokens_per_minute: int | None = Field(
        default=None, ge=1, le=1_000_000_000_000, description="Input and output together."
    )
    parallel_requests: int | None = Field(default=None, ge=1, le=1_000_000)
    soft_share: float = Field(
        default=0.8, gt=0, le=1, description="From this part of a budget on, callers are warned."
    )

    @model_validator(mode="after")
    def _each_can_be_reached(self) -> Limits:
        budgets = [
            (name, amount)
            for name in ("usd_per_day", "usd_per_week", "usd_per_month", "usd_in_all")
            if (amount := getattr(self, name)) is not None
        ]
        for (short, smaller), (long, larger) in combinations(budgets, 2):
            # A week that two months share may cost more than either of them allows.
            if smaller > larger and (short, long) != ("usd_per_week", "usd_per_month"):
                raise ValueError(f"`{short}` is more than `{long}`, and so would never be reached")
        return self


class TagLimits(Written):
    """A group of keys or requests with limits of its own."""

    limits: Limits


class Redis(Written):
    """Where gateways that serve together keep what they have in common."""

    url: RedisURL = Field(description="redis://, rediss:// (TLS) or unix://; write ${REDIS_URL}.")
    prefix: str = Field(
        default="pointsman",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=64,
        description="Begins every key, so that several installations can share a server.",
    )
    timeout_ms: int = Field(
        default=100, ge=5, le=10_000, description="No answer for so long, and it counts as away."
    )
    lease_seconds: float = Field(
        default=30,
        ge=1,
        le=3_600,
        description="For so long the parallel requests of a process that died stay counted.",
    )
    replicas: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="Gateways that share it, for who starts while it is away; else they are "
        "counted.",
    )


class KeyTerms(Written):
    """What a key is for. With neither `routes` nor `models` it may ask for all of them; with one
    of the two, for nothing but what is listed."""

    name: Name | None = Field(default=None, description="For people; the id if left out.")
    routes: Names | None = Field(default=None, description="Routes it may ask for.")
    models: Names | None = Field(default=None, description="Models it may ask for by name.")
    admin: bool = Field(default=False, description="It may make, change and revoke keys.")
    metrics: bool = Field(default=False, description="It may read /metrics.")
    expires: Moment | None = Field(default=None, description="A date or a moment; UTC if unsaid.")
    tags: Annotated[list[TagName], Field(max_length=32)] = Field(
        default_factory=list, description="What its requests are booked under."
    )
    limits: Limits | None = None


class Key(KeyTerms):
    """A key known by its hash, without a database. `pointsman keys hash` makes the entry."""

    id: KeyId = Field(description="Not secret: the part of the key after `pm-`.")
    hash: KeyHash = Field(description="Of the key's text, with the key secret.")


def _database_url(text: str) -> str:
    if not text.startswith(("sqlite:///", "postgresql://", "postgres://")) or text == "sqlite:///":
        raise ValueError("must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE")
    if ":memory:" in text:
        raise ValueError("must be on the disk: the ledger is what outlives the process")
    return text


def _without_password(url: str) -> str:
    head, at, place = url.rpartition("@")
    scheme, _, who = head.partition("://")
    user, colon, _ = who.partition(":")
    masked = f"{scheme}://{user}{colon and ':**********'}{at}{place}" if at else url
    # A driver takes a password after the question mark as well.
    path, question, _ = masked.partition("?")
    return path + (question and "?**********")


DatabaseURL = Annotated[
    str, AfterValidator(_database_url), PlainSerializer(_without_password, when_used="json")
]
"""Told without its password."""


class Ledger(Written):
    """The record of every request, for spending and for learning. docs/ledger.md."""

    url: DatabaseURL | None = Field(
        default="sqlite:///.pointsman/ledger.db",
        repr=False,
        description="sqlite:///PATH (relative to this file; sqlite:////PATH is absolute) or "
        "postgresql://... (needs the [postgres] extra). null keeps no ledger.",
    )
    journal: str = Field(
        default=".pointsman/journal",
        min_length=1,
        description="A directory on a local disk, where requests wait for the database.",
    )
    retention_days: int = Field(
        default=90, ge=1, le=36_500, description="Of single requests; daily sums are kept."
    )
    keep_prompt_text: bool = Field(default=False, description="Keep what users asked, in clear.")
    keep_embeddings: bool = Field(
        default=False, description="Keep prompts' vectors, where one was made."
    )
