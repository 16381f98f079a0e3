"""LiteLLM's price keys, dollars a token, as a price list of ours, dollars a million tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

_RATES = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "input_cost_per_token_cache_hit": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_input",
    "cache_read_input_audio_token_cost": "cached_audio_input",
    "output_cost_per_audio_token": "audio_output",
    "input_cost_per_image_token": "image_input",
    "output_cost_per_image_token": "image_output",
}
_SIZE = re.compile(r"_above_(\d+)k_tokens")
_SERVICE = re.compile(r"_(priority|flex|batches)\Z")
_MILLION = 1_000_000
_FEE = "input_cost_per_request"
_MOST = Decimal("0.1")
"""Dollars a token, as much as the YAML takes; and more than any request's fee."""
_NINTH = Decimal("0.000000001")


def is_price(key: str) -> bool:
    """Whether a key of LiteLLM's states a price, ours or not."""
    return "cost_per_" in key or "_token_cost" in key or key == "tiered_pricing"


def prices(written: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[str]]:
    """The price list of a deployment's keys, as the YAML has it, and what is lost.

    None where LiteLLM's keys don't give a price for input and for output. In a size's list, what is
    not stated is what it is for any size, as LiteLLM bills it.
    """
    notes: list[str] = []
    # By service tier, "" for the usual way, then by size in thousands of tokens, 0 for any.
    found: dict[str, dict[int, dict[str, Decimal]]] = {}
    fee: Decimal | None = None
    for key, value in written.items():
        if not is_price(key) or value is None:
            continue
        amount, rate = _amount(value), _rate(key)
        if rate is None and key != _FEE:
            notes.append(f"`{key}` has no counterpart")
        elif amount is None:
            notes.append(f"`{key}` is not an amount")
        elif rate is None:
            fee = amount
        else:
            service, size, name = rate
            million = amount * _MILLION
            exact = million.quantize(_NINTH)
            if exact != million:
                notes.append(f"`{key}` is rounded to nine decimals of a dollar a million tokens")
            found.setdefault(service, {}).setdefault(size, {})[name] = exact
    usual = _sized(found.pop("", {}))
    if usual is None:
        if found or fee is not None or notes:
            notes.append("its prices are left out: LiteLLM's keys state no input and output price")
        return None, notes
    if fee is not None:
        usual["per_request"] = _plain(fee)
    services = {}
    for service, sizes in found.items():
        tier = _sized(sizes)
        if tier is None:
            notes.append(f"the prices of {service} are left out: they are not both in and out")
        else:
            services["batch" if service == "batches" else service] = tier
    if services:
        usual["service_tiers"] = services
    return usual, notes


def _rate(key: str) -> tuple[str, int, str] | None:
    """Service tier, size in thousands and the name of our price."""
    service = ""
    if match := _SERVICE.search(key):
        service, key = match.group(1), key[: match.start()]
    size = 0
    if match := _SIZE.search(key):
        size, key = int(match.group(1)), key[: match.start()] + key[match.end() :]
    return (service, size, _RATES[key]) if key in _RATES else None


def _sized(sizes: Mapping[int, Mapping[str, Decimal]]) -> dict[str, Any] | None:
    base = sizes.get(0, {})
    if not {"input", "output"} <= base.keys():
        return None
    listed: dict[str, Any] = dict(_in_order(base))
    tiers = [
        {"above_tokens": size * 1000, **dict(_in_order({**base, **sizes[size]}))}
        for size in sorted(sizes)
        if size
    ]
    return {**listed, "tiers": tiers} if tiers else listed


def _in_order(rates: Mapping[str, Decimal]) -> Iterator[tuple[str, int | float]]:
    for name in dict.fromkeys(_RATES.values()):
        if name in rates:
            yield name, _plain(rates[name])


def _amount(value: Any) -> Decimal | None:
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    sound = amount.is_finite() and 0 <= amount <= _MOST and not isinstance(value, bool)
    return amount if sound else None


def _plain(amount: Decimal) -> int | float:
    """As it is written in YAML; a float's shortest form reads back as the same decimal."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)
