"""The written form of the YAML: what a person may say, with unknown keys refused.

Only shape and ranges are checked here; names that must exist elsewhere in the file are checked by
`references`, and what needs a router artifact by `app.compiling`. The JSON Schema that editors use
(`configs/schema.json`) is generated from these classes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from app.config.accounts import Key as Key
from app.config.accounts import KeyTerms as KeyTerms
from app.config.accounts import Ledger as Ledger
from app.config.accounts import Limits as Limits
from app.config.accounts import Redis, TagLimits
from app.config.fields import OWN_HEADERS as OWN_HEADERS
from app.config.fields import (
    ApiKey,
    BaseURL,
    Capability,
    Day,
    HeaderName,
    Name,
    Seconds,
    Secret,
    TagName,
    TierName,
    UsdPerMillion,
    UsdPerRequest,
)
from app.config.fields import Written as Written
from app.config.objectives import BudgetObjective as BudgetObjective
from app.config.objectives import GuaranteeObjective as GuaranteeObjective
from app.config.objectives import Objective as Objective
from app.config.objectives import QualityObjective as QualityObjective
from app.config.objectives import ThresholdObjective as ThresholdObjective
from app.config.objectives import TradeoffObjective as TradeoffObjective
from app.config.objectives import WhenBudgetLow


class Drain(Written):
    """How a gateway ends that is told to, by SIGTERM or Ctrl-C."""

    delay_seconds: float = Field(
        default=0,
        ge=0,
        le=600,
        description="How long it serves on as not ready, so that load balancers notice. "
        "Kubernetes takes some 5 s.",
    )
    timeout_seconds: float = Field(
        default=30,
        ge=0,
        le=86_400,
        description="How long after that requests and streams have to end; then they are cut off.",
    )


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
    drain: Drain = Drain()
    watch_config: bool = Field(
        default=False,
        description="Look at this file once a second, and serve by it anew when it has changed.",
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
        "words alone must bear, at most.",
    )
    encode_share: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="when-unsure: the part of new prompts to encode, the least clear first; novel "
        "ones are encoded beyond it. 1 leaves it to the margin alone.",
    )
    fallbacks: list[Name] = Field(
        default_factory=list, description="Tried in this order after every candidate has failed."
    )
    limits: Limits | None = None
    when_budget_low: WhenBudgetLow | None = None


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
    limits: Limits | None = Field(default=None, description="Of the whole gateway.")
    tags: dict[TagName, TagLimits] = Field(default_factory=dict)
    redis: Redis | None = Field(
        default=None, description="Without it each process counts by itself."
    )
