"""Ready prices: what the library genai-prices knows of a model, where it is surely that model.

Used for models whose prices the YAML leaves out. A wrong guess would be a wrong dollar, so a price
is taken only where the upstream's address tells the provider, the model's id is exactly one that
the library lists for it, and every price that the library states is one that a bill can be made
of; else the price stays unknown. Read when a configuration is compiled, from the data that the
installed version carries: nothing is fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from yarl import URL

from app.catalog.prices import DatedPrices, PriceBook, Prices, day_of
from app.config import schema
from app.config.document import KeyPath
from app.config.load import Loaded
from app.config.names import nearest
from app.errors import Problem
from app.exchange.money import nano_from_usd

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

HOSTS: Mapping[str, str] = {
    "api.anthropic.com": "anthropic",
    "api.cerebras.ai": "cerebras",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshotai",
    "api.novita.ai": "novita",
    "api.openai.com": "openai",
    "api.together.xyz": "together",
    "api.x.ai": "x-ai",
    "api.z.ai": "zai",
    "generativelanguage.googleapis.com": "google",
}
"""The library's provider by host. Not here: hosts with regional prices, Azure, where an id is a
deployment's name, and OpenRouter, whose prices depend on who serves. `provider:` names them."""

_RATES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "cache_audio_read_mtok": "cached_audio_input",
    "output_audio_mtok": "audio_output",
    "input_image_mtok": "image_input",
    "output_image_mtok": "image_output",
}
_FEES_OF_TOOLS = frozenset({"web_searches_kcount", "storage_searches_kcount"})
"""Charged for what a request asks for beside the model; no price list here has them."""
_PER_REQUEST = "requests_kcount"
_DATED = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2}|latest)\Z")
_SERVICES = {("processing", "batch"): "batch", ("speed", "fast"): "fast"}


class NotReady(Exception):
    """Why there is no ready price, for who insists on one."""


class Ready(NamedTuple):
    """Prices of one model and the library's name of the provider whose they are."""

    provider: str
    prices: PriceBook


def version() -> str:
    """The library's, which is that of its data."""
    from importlib.metadata import version as installed

    return f"genai-prices {installed('genai-prices')}"


def ready_prices(loaded: Loaded) -> tuple[dict[str, Ready], list[Problem]]:
    """Ready prices by deployment, of those for which none are stated, not by their model either;
    and a problem for each `auto` without any.

    The library is loaded only if a model needs it and its provider is known.
    """
    found: dict[str, Ready] = {}
    problems: list[Problem] = []
    for model_name, model in loaded.config.models.items():
        for i, (name, deployment) in enumerate(model.places(model_name)):
            path: KeyPath = ("models", model_name, "prices")
            written = model.prices
            if deployment.prices is not None:
                path = ("models", model_name, "deployments", i, "prices")
                written = deployment.prices
            if written not in (None, "auto"):
                continue
            try:
                found[name] = _ready(
                    loaded.config.upstreams[deployment.upstream], deployment.id or model_name
                )
            except NotReady as why:
                if written == "auto":
                    told = f"no ready prices for {name}: {why}" if i else f"no ready prices: {why}"
                    problems.append(loaded.document.problem(path, told, "state them"))
    return found, [*problems, *_unknown_providers(loaded)]


def _unknown_providers(loaded: Loaded) -> Iterator[Problem]:
    for name, upstream in loaded.config.upstreams.items():
        provider = getattr(upstream, "provider", None)
        if provider is not None and provider not in (known := _providers()):
            yield loaded.document.problem(
                ("upstreams", name, "provider"),
                f"{version()} knows no provider `{provider}`",
                nearest(provider, known),
            )


def _ready(upstream: schema.Upstream, model_id: str) -> Ready:
    if not isinstance(upstream, schema.OpenAIUpstream):
        raise NotReady("a simulated model has none")
    provider = upstream.provider or HOSTS.get(URL(upstream.base_url).host or "")
    if provider is None:
        raise NotReady("the upstream's address tells no provider; `provider:` names one")
    if provider not in _providers():
        raise NotReady(f"{version()} knows no provider `{provider}`")
    if "search" in model_id:
        raise NotReady("each of its calls has a fee for searching")
    listed = _providers()[provider]
    return Ready(provider, _compile(_exact(listed, model_id.removeprefix("models/"))))


def _providers() -> Mapping[str, Provider]:
    from genai_prices.data import providers

    return {provider.id: provider for provider in providers}


# --- which model it is -----------------------------------------------------------------------


def _exact(provider: Provider, model_id: str) -> ModelInfo:
    """The one model that the library lists by exactly this id, or by it without its date."""
    matches = [model for model in provider.models if _is(model, model_id)]
    if len(matches) != 1 or provider.find_model(model_id) is not matches[0]:
        raise NotReady(f"{version()} does not list exactly `{model_id}` for {provider.id}")
    return matches[0]


def _is(model: ModelInfo, model_id: str) -> bool:
    if not model.is_match(model_id):
        return False
    return model.id == model_id or any(_names(model.match, model_id))


def _names(clause: Any, model_id: str) -> Iterator[bool]:
    """Whether a clause of the library's names this very id; a pattern that only fits does not.

    A beginning counts where nothing but a date follows it.
    """
    for inner in (*getattr(clause, "or_", ()), *getattr(clause, "and_", ())):
        yield from _names(inner, model_id)
    if (equals := getattr(clause, "equals", None)) is not None:
        yield equals == model_id
    if (start := getattr(clause, "starts_with", None)) is not None:
        yield start in (model_id, _DATED.sub("", model_id))


# --- its prices ------------------------------------------------------------------------------


def _compile(model: ModelInfo) -> PriceBook:
    from genai_prices.types import ModelPrice, StartDateConstraint

    listed = [] if isinstance(model.prices, ModelPrice) else model.prices
    constraints = [each.constraint for each in (*listed, *(model.price_variants or ()))]
    dates: set[date] = set()
    for constraint in constraints:
        if isinstance(constraint, StartDateConstraint):
            dates.add(constraint.start_date)
        elif constraint is not None:
            raise NotReady("its prices change with the time of day")
    first = _on(model, date(1970, 1, 2))
    if not dates:
        return first
    days = sorted(dates)
    return DatedPrices((0, *map(day_of, days)), (first, *(_on(model, day) for day in days)))


def _on(model: ModelInfo, day: date) -> Prices:
    """The list in force on a day, with those of other service tiers."""
    when = datetime.combine(day, time(), UTC)
    services: dict[str, Prices] = {}
    for variant in model.price_variants or ():
        if len(variant.when) != 1 or (variant.constraint and not variant.constraint.active(when)):
            continue
        ((kind, value),) = variant.when.items()
        service = value if kind == "service_tier" else _SERVICES.get((kind, value))
        if service is not None and service != "default":
            services[service] = _sized(model.get_prices(when, variant.when))
    return replace(_sized(model.get_prices(when)), service_tiers=MappingProxyType(services))


def _sized(listed: ModelPrice) -> Prices:
    from genai_prices.types import TieredPrices

    amounts = {
        key: value
        for key, value in vars(listed).items()
        if value is not None and key not in _FEES_OF_TOOLS
    }
    if unknown := amounts.keys() - _RATES.keys() - {_PER_REQUEST}:
        raise NotReady(f"it has prices that no bill here has: {', '.join(sorted(unknown))}")
    starts = {
        tier.start
        for value in amounts.values()
        if isinstance(value, TieredPrices)
        for tier in value.tiers
    }
    sizes = ((start, _list(amounts, start)) for start in sorted(starts))
    return replace(_list(amounts, 0), tiers=tuple(sizes))


def _list(amounts: Mapping[str, Any], above: int) -> Prices:
    """The list for requests with more input tokens than `above`."""
    rates: dict[str, int] = {}
    for key, value in amounts.items():
        base = value if isinstance(value, Decimal) else value.base
        for tier in () if isinstance(value, Decimal) else value.tiers:
            base = tier.price if above and tier.start <= above else base
        try:
            if key == _PER_REQUEST:
                rates["per_request"] = nano_from_usd(base / 1000)
            else:
                rates[_RATES[key]] = nano_from_usd(base)
        except ValueError:
            raise NotReady("it has a price with more than nine decimals") from None
    if not {"input", "output"} <= rates.keys():
        raise NotReady("it has no price for input or for output")
    return replace(Prices(rates.pop("input"), rates.pop("output")), **rates)  # type: ignore[arg-type]
