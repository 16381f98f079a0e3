"""The written form of the YAML: what a person may say, with unknown keys refused.

Only shape and ranges are checked here; names that must exist elsewhere in the file are checked by
`references`, and what needs a router artifact by `app.compiling`. The JSON Schema that editors use
(`configs/schema.json`) is generated from these classes.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import combinations
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
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


_OWN_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding"}
)


def _header_name(name: str) -> str:
    if name.lower() in _OWN_HEADERS:
        raise ValueError("is set by the gateway itself")
    return name


Secret = Annotated[SecretStr, BeforeValidator(_secret)]
ApiKey = Annotated[SecretStr, BeforeValidator(_api_key)]
BaseURL = Annotated[str, AfterValidator(_base_url)]
HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9-]+$"), AfterValidator(_header_name)
]
RedisURL = Annotated[SecretStr, BeforeValidator(_redis_url)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
UsdPerMillion = Annotated[Decimal, Field(ge=0, le=100_000, max_digits=14, decimal_places=9)]
Dollars = Annotated[Decimal, Field(gt=0, le=1_000_000, decimal_places=9)]
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


class Prices(Written):
    """US dollars per million tokens. What is left out is unknown, which is not the same as 0."""

    input: UsdPerMillion
    output: UsdPerMillion
    cached_input: UsdPerMillion | None = Field(
        default=None, description="Input read from the prompt cache."
    )
    cache_write: UsdPerMillion | None = Field(
        default=None, description="Input written to the prompt cache."
    )


class Model(Written):
    """A model on offer: where it lives, what it costs, what it can do, how good it is."""

    upstream: Name
    id: str | None = Field(
        default=None,
        min_length=1,
        description="Its id at the upstream; the entry's name if absent.",
    )
    prices: Prices | None = Field(
        default=None, description="Without prices its cost is null, and it is chosen last."
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


class Tag(Written):
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


class WhenBudgetLow(Written):
    """How to choose once a budget that the request meets is spent to its `soft_share`."""

    objective: Annotated[
        QualityObjective | TradeoffObjective | ThresholdObjective, Field(discriminator="kind")
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
    limits: Limits | None = None
    when_budget_low: WhenBudgetLow | None = None


class Config(Written):
    """One Pointsman configuration file."""

    server: Server = Server()
    encoder: Encoder = Encoder()
    upstreams: dict[Name, Upstream] = Field(min_length=1)
    models: dict[Name, Model] = Field(min_length=1)
    routes: dict[Name, Route] = Field(
        default_factory=dict, description="`auto` is the route of clients that ask for no other."
    )
    limits: Limits | None = Field(default=None, description="Of the whole gateway.")
    tags: dict[Name, Tag] = Field(default_factory=dict)
    redis: Redis | None = Field(
        default=None, description="Without it each process counts by itself."
    )
