"""The written form of what a model costs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from app.config.fields import Day, TierName, UsdPerMillion, UsdPerRequest, Written


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
