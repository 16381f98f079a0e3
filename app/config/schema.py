"""The written form of the YAML: what a person may say, with unknown keys refused.

Only shape and ranges are checked here; names that must exist elsewhere in the file are checked by
`references`, and what needs a router artifact by `app.compiling`. The JSON Schema that editors use
(`configs/schema.json`) is generated from these classes.
"""

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
    Discriminator,
    Field,
    SecretStr,
    StringConstraints,
    Tag,
    model_validator,
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


def _base_url(text: str) -> str:
    try:
        url = URL(text)
        usable = url.scheme in ("http", "https") and bool(url.host) and url.port is not None
    except ValueError:
        usable = False
    if not usable or url.user or url.password or url.query_string or url.fragment:
        raise ValueError(
            "must be an http or https address without credentials or query, "
            "such as https://api.openai.com/v1"
        )
    if url.path.rstrip("/").endswith("/completions"):
        raise ValueError("must end before /chat/completions, which is added")
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
Seconds = Annotated[float, Field(gt=0, le=86_400)]
UsdPerMillion = Annotated[Decimal, Field(ge=0, le=100_000, decimal_places=9)]
UsdPerRequest = Annotated[Decimal, Field(ge=0, le=1_000, decimal_places=9)]
TierName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Day = Annotated[date, BeforeValidator(_day)]
Dollars = Annotated[Decimal, Field(gt=0, le=1_000_000, decimal_places=9)]
Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
KeyId = Annotated[str, AfterValidator(_key_id), Field(json_schema_extra={"pattern": _KEY_ID})]
KeyHash = Annotated[str, AfterValidator(_key_hash), Field(json_schema_extra={"pattern": _KEY_HASH})]
Names = Annotated[list[Name], Field(max_length=1000)]
Capability = Literal[
    "tools", "parallel_tools", "vision", "audio", "json_object", "json_schema", "logprobs", "files"
]


class Written(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Server(Written):
    """How the gateway itself listens and what it accepts."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    workers: int = Field(default=1, ge=1, le=256)
    allow_anonymous: bool | None = Field(
        default=None,
        description="Whether who sends no key is served. Left out: as long as there is no key at "
        "all, on loopback only.",
    )
    max_body_bytes: int = Field(
        default=25 * 1024 * 1024, ge=1024, description="A larger request is answered with 413."
    )
    max_images: int = Field(
        default=100, ge=0, description="Image parts allowed in one request; more is a 400."
    )
    body_timeout_seconds: Seconds = Field(
        default=30, description="How long a client may take to send its body."
    )
    header_timeout_seconds: Seconds = Field(
        default=10, description="How long a client may take to send its headers."
    )
    keep_alive_seconds: Seconds = Field(
        default=75, description="How long an idle client connection stays open."
    )


class Encoder(Written):
    """What turns a prompt into a vector. It must be the encoder that the router was built with."""

    backend: Literal["onnx", "sentence-transformers"] = "onnx"
    model: str = Field(
        default="encoder-minilm",
        description="onnx: a directory, or the name of one in router_models/. "
        "sentence-transformers: a Hugging Face name or a directory (needs the [train] extra).",
    )
    cache_entries: int = Field(
        default=10_000,
        ge=0,
        description="Vectors and estimates kept by text hash (about 3 KB each).",
    )


class Timeouts(Written):
    connect_seconds: Seconds = 5
    first_byte_seconds: Seconds = Field(
        default=120,
        description="From sending the request to the first byte (non-streaming: the headers).",
    )
    idle_seconds: Seconds = Field(default=60, description="Longest silence between two chunks.")
    total_seconds: Seconds = 600


class OpenAIUpstream(Written):
    """Any server that speaks OpenAI's chat completions."""

    kind: Literal["openai"]
    base_url: BaseURL = Field(
        description="Up to and including the version, as in https://api.openai.com/v1"
    )
    api_key: ApiKey | None = Field(
        default=None, description="Sent as a Bearer token; write ${OPENAI_API_KEY}, not the key."
    )
    headers: dict[HeaderName, Secret] = Field(
        default_factory=dict, description="Sent with every request, e.g. Azure's api-key."
    )
    provider: str | None = Field(
        default=None,
        min_length=1,
        description="Whose ready prices hold here, where `base_url` does not tell: openai, azure, "
        "google and others, as genai-prices names them.",
    )
    stream_usage: bool = Field(
        default=True,
        description="Ask for the usage of streams (`stream_options.include_usage`). Turn it off "
        "for a server that refuses the field; the cost of its streams is then unknown.",
    )
    timeouts: Timeouts = Timeouts()


class SimulatedUpstream(Written):
    """The shipped scripted server, started beside the gateway. Its answers are not real."""

    kind: Literal["simulated"]
    port: int = Field(default=0, ge=0, le=65_535, description="0 takes a free port.")
    timeouts: Timeouts = Timeouts()


Upstream = Annotated[OpenAIUpstream | SimulatedUpstream, Field(discriminator="kind")]


class Rates(Written):
    """US dollars per million tokens. What is left out is unknown, which is not the same as 0."""

    input: UsdPerMillion
    output: UsdPerMillion
    cached_input: UsdPerMillion | None = Field(
        default=None, description="Input read from the prompt cache."
    )
    cache_write: UsdPerMillion | None = Field(
        default=None, description="Input written to the prompt cache, for five minutes or so."
    )
    cache_write_1h: UsdPerMillion | None = Field(
        default=None, description="Input written to the prompt cache for an hour."
    )
    reasoning: UsdPerMillion | None = Field(
        default=None, description="Reasoning tokens, where they don't cost what output does."
    )
    audio_input: UsdPerMillion | None = Field(default=None, description="Audio tokens of input.")
    cached_audio_input: UsdPerMillion | None = Field(
        default=None, description="Audio tokens read from the prompt cache."
    )
    audio_output: UsdPerMillion | None = Field(default=None, description="Audio tokens of output.")
    image_input: UsdPerMillion | None = Field(
        default=None, description="Image tokens of input, where they don't cost what input does."
    )
    image_output: UsdPerMillion | None = Field(default=None, description="Image tokens of output.")
    per_request: UsdPerRequest | None = Field(
        default=None, description="US dollars of each call, whatever it uses."
    )


class SizeTier(Rates):
    """Prices of the whole request where its input is long."""

    above_tokens: int = Field(
        ge=1, le=100_000_000, description="For requests with more input tokens than that."
    )


class SizedRates(Rates):
    """Prices, and those of requests with a long input."""

    tiers: list[SizeTier] = Field(
        default_factory=list, description="By the length of the input, shortest first."
    )


class Prices(SizedRates):
    """What a model costs."""

    from_: Day | None = Field(
        default=None, alias="from", description="First day of these prices, UTC: 2026-07-01."
    )
    currency: Literal["USD"] = "USD"
    service_tiers: dict[TierName, SizedRates] = Field(
        default_factory=dict,
        description="Prices of other ways to be served, such as flex, priority or batch, by the "
        "name that the upstream's response gives in `service_tier`.",
    )


def _form_of_prices(written: object) -> str | None:
    if isinstance(written, dict | Prices):
        return "one"
    if isinstance(written, list) and written:
        return "dated"
    return "auto" if written == "auto" else None


PricesOrLists = Annotated[
    Annotated[Prices, Tag("one")]
    | Annotated[list[Prices], Field(min_length=1), Tag("dated")]
    | Annotated[Literal["auto"], Tag("auto")],
    Discriminator(
        _form_of_prices,
        custom_error_type="form_of_prices",
        custom_error_message="must be prices, a list of dated prices, or `auto`",
    ),
]


class Model(Written):
    """A model on offer: where it lives, what it costs, what it can do, how good it is."""

    upstream: Name
    id: str | None = Field(
        default=None,
        min_length=1,
        description="Its id at the upstream; the entry's name if absent.",
    )
    prices: PricesOrLists | None = Field(
        default=None,
        description="Prices, or a list of dated ones. Left out, ready prices are taken where the "
        "upstream's address and the id are known (`auto` insists on them); else its cost is null, "
        "and it is chosen last.",
    )
    context_window: int | None = Field(default=None, ge=1, description="Tokens, input and output.")
    max_output: int | None = Field(default=None, ge=1, description="Tokens of one answer.")
    capabilities: list[Capability] | None = Field(
        default=None,
        description="What a request may need of it; left out, it is taken to be capable of all.",
    )
    like: str | None = Field(
        default=None, description="A model that the router's outcomes know (`pointsman models`)."
    )
    quality: float | None = Field(
        default=None, ge=0, le=1, description="Stated mean quality, where no outcomes exist."
    )

    @model_validator(mode="after")
    def _one_prior(self) -> Model:
        if self.like is not None and self.quality is not None:
            raise ValueError("give `like` or `quality`, not both")
        return self

    @model_validator(mode="after")
    def _room_for_output(self) -> Model:
        if self.max_output and self.context_window and self.max_output > self.context_window:
            raise ValueError("`max_output` is larger than `context_window`")
        return self


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
        default=0.8, gt=0, le=1, description="From this part of a limit on, callers are warned."
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
    tags: Annotated[list[Name], Field(max_length=32)] = Field(
        default_factory=list, description="What its requests are booked under."
    )
    limits: Limits | None = None


class Key(KeyTerms):
    """A key known by its hash, without a database. `pointsman keys hash` makes the entry."""

    id: KeyId = Field(description="Not secret: the part of the key after `pm-`.")
    hash: KeyHash = Field(description="Of the key's text, with the key secret.")


class QualityObjective(Written):
    """The cheapest model whose predicted quality is at least `keep` of the best candidate's."""

    kind: Literal["quality"]
    keep: float = Field(default=0.95, gt=0, le=1)
    confidence: float = Field(
        default=0.6,
        ge=0.5,
        lt=1,
        description="How sure the prediction must be: the bar is held against this lower bound.",
    )


class TradeoffObjective(Written):
    """Most value for money: quality x what a right answer is worth, less its cost."""

    kind: Literal["tradeoff"]
    answer_value_usd: Dollars = Field(
        description="What one right answer is worth to you, in US dollars."
    )


class ThresholdObjective(Written):
    """RouteLLM's rule: the strong model when it is likely enough to win, else the weak one."""

    kind: Literal["threshold"]
    threshold: float = Field(ge=0, le=1, description="Least win rate that buys the strong model.")
    strong: Name | None = Field(default=None, description="The baseline if absent.")
    weak: Name | None = Field(default=None, description="The cheapest other candidate if absent.")

    @model_validator(mode="after")
    def _two_models(self) -> ThresholdObjective:
        if self.strong is not None and self.strong == self.weak:
            raise ValueError("`strong` and `weak` name the same model")
        return self


class BudgetObjective(Written):
    """As much quality as a budget buys: the trade-off follows what has been spent."""

    kind: Literal["budget"]
    usd_per_day: Dollars | None = Field(
        default=None, description="For the route, a UTC day; workers share it in equal parts."
    )
    usd_per_1k_requests: Dollars | None = Field(
        default=None, description="However many requests there are."
    )

    @model_validator(mode="after")
    def _one_budget(self) -> BudgetObjective:
        if (self.usd_per_day is None) == (self.usd_per_1k_requests is None):
            raise ValueError("give one of `usd_per_day` and `usd_per_1k_requests`")
        return self


class GuaranteeObjective(Written):
    """At least `keep` of the strong model's mean quality, with confidence 1 - `delta`.

    Needs a promise for the route's candidates in its router: `pointsman calibrate`.
    """

    kind: Literal["guarantee"]
    keep: float = Field(default=0.95, gt=0, le=1)
    delta: float = Field(
        default=0.1, gt=0, le=0.5, description="How likely the calibration may have misled."
    )
    strong: Name | None = Field(default=None, description="The baseline if absent.")


Objective = Annotated[
    QualityObjective
    | TradeoffObjective
    | BudgetObjective
    | GuaranteeObjective
    | ThresholdObjective,
    Field(discriminator="kind"),
]


class Route(Written):
    """A name that clients may send, with the models it may choose from and how it chooses."""

    aliases: list[Name] = Field(default_factory=list)
    candidates: list[Name] = Field(min_length=1)
    baseline: Name | None = Field(
        default=None,
        description="The model that savings are measured against; the dearest candidate if absent.",
    )
    objective: Objective = QualityObjective(kind="quality")
    router: str | None = Field(
        default="default",
        description="A router artifact: a directory, or the name of one in router_models/. "
        "null decides by the stated priors alone.",
    )
    encode: Literal["always", "when-unsure", "never"] = Field(
        default="when-unsure",
        description="When to pay for a prompt's vector: for every prompt, only where its words "
        "alone leave the choice unclear, or never (then no encoder is loaded).",
    )
    encode_margin: float = Field(
        default=1.0,
        ge=0,
        le=10,
        description="when-unsure: how many standard deviations of doubt a choice made from the "
        "words alone must bear. More encodes more prompts.",
    )
    fallbacks: list[Name] = Field(
        default_factory=list, description="Tried in this order after every candidate has failed."
    )


def _database_url(text: str) -> str:
    if not text.startswith(("sqlite:///", "postgresql://", "postgres://")) or text == "sqlite:///":
        raise ValueError("must be sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE")
    if ":memory:" in text:
        raise ValueError("must be on the disk: the ledger is what outlives the process")
    return text


DatabaseURL = Annotated[str, AfterValidator(_database_url)]


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


class Config(Written):
    """One Pointsman configuration file."""

    strict_prices: bool = Field(
        default=False, description="Refuse models whose prices are not known."
    )
    server: Server = Server()
    encoder: Encoder = Encoder()
    keys: list[Key] = Field(
        default_factory=list, description="Keys of clients; others are kept in the database."
    )
    ledger: Ledger | None = Ledger()
    upstreams: dict[Name, Upstream] = Field(min_length=1)
    models: dict[Name, Model] = Field(min_length=1)
    routes: dict[Name, Route] = Field(
        default_factory=dict, description="`auto` is the route of clients that ask for no other."
    )
