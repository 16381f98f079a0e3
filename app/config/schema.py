"""The written form of the YAML: what a person may say, with unknown keys refused.

Only shape and ranges are checked here; names that must exist elsewhere in the file are checked by
`references`, and what needs a router artifact by `app.compiling`. The JSON Schema that editors use
(`configs/schema.json`) is generated from these classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from app.config.accounts import Key as Key
from app.config.accounts import KeyTerms as KeyTerms
from app.config.accounts import Ledger as Ledger
from app.config.accounts import Limits as Limits
from app.config.accounts import Redis, TagLimits
from app.config.caching import Cache as Cache
from app.config.caching import SwitchOrTerms
from app.config.conversations import Affinity as Affinity
from app.config.conversations import AffinityOrSwitch
from app.config.delivery import Balance, RouteTimeouts
from app.config.delivery import Breaker as Breaker
from app.config.delivery import Deployment as Deployment
from app.config.delivery import DeploymentLimits as DeploymentLimits
from app.config.delivery import Hedge as Hedge
from app.config.delivery import Retries as Retries
from app.config.delivery import Timeouts as Timeouts
from app.config.fields import OWN_HEADERS as OWN_HEADERS
from app.config.fields import (
    ApiKey,
    BaseURL,
    Capability,
    HeaderName,
    Name,
    Seconds,
    Secret,
    TagName,
)
from app.config.fields import Written as Written
from app.config.objectives import BudgetObjective as BudgetObjective
from app.config.objectives import GuaranteeObjective as GuaranteeObjective
from app.config.objectives import Objective as Objective
from app.config.objectives import QualityObjective as QualityObjective
from app.config.objectives import ThresholdObjective as ThresholdObjective
from app.config.objectives import TradeoffObjective as TradeoffObjective
from app.config.objectives import WhenBudgetLow
from app.config.prices import Prices as Prices
from app.config.prices import PricesOrLists as PricesOrLists
from app.config.prices import Rates as Rates
from app.config.prices import SizedRates as SizedRates
from app.config.telemetry import Tracing as Tracing


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
    keep_alive_comment_seconds: Seconds | None = Field(
        default=15,
        description="A stream whose first event takes longer begins with comments, so that nobody "
        "cuts a silent connection. null: never.",
    )
    max_concurrent_requests: int | None = Field(
        default=2000,
        ge=1,
        le=1_000_000,
        description="Chat requests that one worker serves at once; null does not limit them.",
    )
    queue_requests: int = Field(
        default=1000, ge=0, le=1_000_000, description="How many more may wait for their turn."
    )
    queue_bytes: int = Field(
        default=256 * 1024 * 1024, ge=0, description="How large they may be together."
    )
    queue_seconds: Seconds = Field(
        default=5, description="How long one may wait; then, or where the queue is full: 503."
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


class _Patience(Written):
    """How long any upstream is waited for, and what is made of its failures."""

    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    breaker: Breaker | None = Field(
        default=Breaker(), description="Of each deployment here; null leaves none alone."
    )
    max_cooldown_seconds: float = Field(
        default=600,
        ge=0,
        le=86_400,
        description="Longest time that a deployment is left alone because it said 429.",
    )


class OpenAIUpstream(_Patience):
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


class SimulatedUpstream(_Patience):
    """The shipped scripted server, started beside the gateway. Its answers are not real."""

    kind: Literal["simulated"]
    port: int = Field(default=0, ge=0, le=65_535, description="0 takes a free port.")


Upstream = Annotated[OpenAIUpstream | SimulatedUpstream, Field(discriminator="kind")]


class Model(Written):
    """A model on offer: where it lives, what it costs, what it can do, how good it is."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["upstream"]}, {"required": ["deployments"]}]}
    )

    upstream: Name | None = Field(default=None, description="Where it is served.")
    id: str | None = Field(
        default=None,
        min_length=1,
        description="Its id at the upstream; the entry's name if absent.",
    )
    deployments: list[Deployment] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="In place of `upstream` and `id`, where it is served in several places.",
    )
    balance: Balance = Field(
        default="weighted",
        description="Which of its deployments is asked first: by their weights, the one with the "
        "fewest requests for its weight, or the one whose answers begin soonest.",
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

    def places(self, name: str) -> Iterator[tuple[str, Deployment]]:
        """Its deployments, each with its name; `id` is filled in."""
        if self.deployments is None:
            assert self.upstream is not None
            yield name, Deployment(upstream=self.upstream, id=self.id or name)
            return
        upstreams = [each.upstream for each in self.deployments]
        for each in self.deployments:
            own = f"{name}/{each.upstream}"
            model_id = each.id or name
            if upstreams.count(each.upstream) > 1:
                own = f"{own}/{model_id}"
            yield own, each.model_copy(update={"id": model_id})

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
    timeouts: RouteTimeouts = RouteTimeouts()
    retries: Retries | None = Field(default=None, description="In place of those of the upstreams.")
    hedge: Hedge | None = Field(
        default=None,
        description="Whether a second deployment is asked beside one that is late. {}: with what "
        "is usual.",
    )
    on_content_refusal: Literal["return", "next_model"] = Field(
        default="return",
        description="Whether a refusal of the content goes to the client, or the next model is "
        "asked.",
    )
    on_stream_failure: Literal["error", "continue"] = Field(
        default="error",
        description="What becomes of a stream that breaks off after its first event: it ends in an "
        "error event, or another model goes on, where the answer is plain text.",
    )
    affinity: AffinityOrSwitch | None = Field(
        default=None,
        description="Whether a conversation stays with its model. Left out: yes, but with a "
        "guarantee.",
    )
    cache: SwitchOrTerms | None = Field(
        default=None,
        description="true or false, or what is otherwise here than in the top `cache`. Left out: "
        "cached if there is one at the top.",
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
    limits: Limits | None = Field(default=None, description="Of the whole gateway.")
    tags: dict[TagName, TagLimits] = Field(default_factory=dict)
    cache: Cache | None = Field(
        default=None, description="Answers given again. Left out, nothing is cached."
    )
    redis: Redis | None = Field(
        default=None, description="Without it each process counts by itself."
    )
    tracing: Tracing | None = Field(
        default=None, description="Without it nothing is traced. `tracing: {}` is enough."
    )
