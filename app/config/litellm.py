"""A LiteLLM proxy's `config.yaml` as a configuration of ours, with a note of all that is lost.

Model groups become models with their deployments, addresses and keys upstreams, and groups that
have fallbacks or aliases routes as well. Keys are never copied: what stood in clear becomes an
environment variable to set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from app.config import litellm_prices
from app.config.litellm_groups import BALANCE, Entry, deployment, model_of
from app.config.litellm_providers import Provider, provider_of
from app.config.references import RESERVED
from app.config.schema import OWN_HEADERS
from app.errors import DataError

_ENVIRONMENT = re.compile(r"^os\.environ/([A-Za-z_][A-Za-z0-9_]*)$")
_HEADER = re.compile(r"^[A-Za-z0-9-]+\Z")
_CAPABILITIES = {
    "supports_function_calling": "tools",
    "supports_parallel_function_calling": "parallel_tools",
    "supports_vision": "vision",
    "supports_audio_input": "audio",
    "supports_pdf_input": "files",
    "supports_response_schema": "json_schema",
}
_ALL = ("tools", "parallel_tools", "vision", "audio", "json_object", "json_schema", "logprobs")
_USED = frozenset(
    {"model", "api_base", "base_url", "api_key", "custom_llm_provider", "extra_headers", "headers",
     "organization", "rpm", "tpm", "max_parallel_requests", "weight", "order"}
)  # fmt: skip
_USED_INFO = frozenset(
    {"mode", "id", "max_input_tokens", "max_output_tokens", "max_tokens", *_CAPABILITIES}
)
_INSTEAD = {
    "general_settings.master_key": "set POINTSMAN_ADMIN_KEY, see docs/keys.md",
    "general_settings.database_url": "give `ledger.url`, see docs/ledger.md",
    "router_settings.redis_host": "give `redis.url`, see docs/limits.md",
    "litellm_settings.max_budget": "give `limits`, see docs/limits.md",
    "litellm_params.max_budget": "limits are of keys, tags and routes, see docs/limits.md",
}
"""What to write where something is not carried over that has its like here."""
_CARRIED = {
    "router_settings": {"fallbacks", "model_group_alias", "routing_strategy"},
    "litellm_settings": {"fallbacks", "default_fallbacks"},
}


@dataclass(slots=True)
class Imported:
    """A configuration in the form of our YAML, and what could not be carried over."""

    config: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables that the configuration needs, with what for."""


def convert(written: Any, file: str) -> Imported:
    """Raises DataError where the file is no configuration of LiteLLM's."""
    listed = written.get("model_list") if isinstance(written, dict) else None
    if not isinstance(listed, list) or not listed:
        raise DataError(
            f"{file}: has no `model_list`; it is not a configuration of LiteLLM's proxy"
        )
    return _Conversion(written, file).run(listed)


class _Conversion:
    def __init__(self, written: Mapping[str, Any], file: str) -> None:
        self._written = written
        self._file = file
        self._done = Imported()
        self._upstreams: dict[str, dict[str, Any]] = {}
        self._models: dict[str, dict[str, Any]] = {}
        self._groups: dict[str, str] = {}
        """The model of each."""

    def run(self, listed: list[Any]) -> Imported:
        entries: dict[str, list[Entry]] = {}
        for place, entry in enumerate(listed):
            for group, made in self._deployment(f"model_list[{place}]", entry):
                entries.setdefault(group, []).append(made)
        if not entries:
            raise DataError(
                f"{self._file}: no entry of `model_list` can be carried over:\n"
                + "\n".join(self._done.notes)
            )
        fallbacks, aliases = self._fallbacks(entries), self._aliases(entries)
        routed = {group for group in entries if fallbacks.get(group) or group in aliases.values()}
        self._name(entries, routed)
        self._done.config = {
            "upstreams": self._upstreams,
            "models": self._models,
            "routes": self._routes(routed, fallbacks, aliases),
        }
        self._left_over()
        return self._done

    def _note(self, place: str, text: str) -> None:
        self._done.notes.append(f"{place}: {text}")

    # --- deployments -------------------------------------------------------------------------

    def _deployment(self, place: str, entry: Any) -> Iterator[tuple[str, Entry]]:
        """The group of one entry and what is made of it, or a note why there is nothing."""
        parameters = entry.get("litellm_params") if isinstance(entry, dict) else None
        group = entry.get("model_name") if isinstance(entry, dict) else None
        if not isinstance(parameters, dict) or not isinstance(parameters.get("model"), str):
            self._note(place, "left out: it has no `litellm_params.model`")
            return
        model, info = parameters["model"], entry.get("model_info") or {}
        group = group if isinstance(group, str) and group else model
        if "*" in group or "*" in model:
            self._note(place, f"left out: a wildcard, `{group}`; list the models it stands for")
            return
        if info.get("mode", "chat") not in ("chat", "responses", None):
            self._note(place, f"left out: `{group}` is for {info['mode']}, not for chat")
            return
        provider, model_id = provider_of(parameters)
        if provider is None:
            self._note(place, f"left out: `{model}` has no endpoint that speaks OpenAI's chat")
            return
        upstream = self._upstream(place, provider, parameters)
        if upstream is None:
            return
        name = _name(group)
        if name != group:
            self._note(place, f"`{group}` is called `{name}`: only letters, digits and ._:/@+-")
        placed = deployment(upstream, model_id, parameters, partial(self._note, place))
        yield name, Entry(placed, self._model(place, parameters, info))

    def _model(
        self, place: str, parameters: Mapping[str, Any], info: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the model is, wherever it is served."""
        made: dict[str, Any] = {}
        priced, notes = litellm_prices.prices({**info, **parameters})
        for note in notes:
            self._note(place, note)
        if priced is not None:
            made["prices"] = priced
        window, most = info.get("max_input_tokens"), info.get("max_output_tokens")
        if type(window) is int and window > 0:
            made["context_window"] = window
        if type(most) is int and 0 < most <= made.get("context_window", most):
            made["max_output"] = most
        lacks = {ours for theirs, ours in _CAPABILITIES.items() if info.get(theirs) is False}
        if lacks:
            made["capabilities"] = [each for each in _ALL if each not in lacks]
        for section, used, values in (
            ("litellm_params", _USED, parameters),
            ("model_info", _USED_INFO, info),
        ):
            for key in values:
                if key not in used and not litellm_prices.is_price(key):
                    self._note(place, f"`{section}.{key}` is {_not_carried(section, key)}")
        return made

    # --- upstreams ---------------------------------------------------------------------------

    def _upstream(
        self, place: str, provider: Provider, parameters: Mapping[str, Any]
    ) -> str | None:
        base = parameters.get("api_base") or parameters.get("base_url")
        base_url = provider.address(self._value(base)) if base else provider.base_url
        if not base_url:
            self._note(place, f"left out: {provider.name} needs an `api_base`")
            return None
        made: dict[str, Any] = {"kind": "openai", "base_url": base_url}
        key = self._key(place, provider, parameters.get("api_key"))
        headers = {}
        if key is not None and provider.key_header:
            headers[provider.key_header] = key
        elif key is not None:
            made["api_key"] = key
        if parameters.get("organization"):
            headers["OpenAI-Organization"] = self._value(parameters["organization"])
        for own in ("headers", "extra_headers"):
            for name, value in (parameters.get(own) or {}).items():
                if not _HEADER.match(str(name)) or str(name).lower() in OWN_HEADERS:
                    self._note(place, f"`{own}.{name}` can't be sent")
                    continue
                headers[str(name)] = self._secret(place, f"{own}.{name}", value, provider.name)
        if headers:
            made["headers"] = headers
        for name, upstream in self._upstreams.items():
            if upstream == made:
                return name
        name = _free(provider.name, self._upstreams)
        self._upstreams[name] = made
        return name

    def _key(self, place: str, provider: Provider, key: Any) -> str | None:
        if key is None:
            if not provider.key_variable:
                return None
            self._done.variables.setdefault(provider.key_variable, f"the key of {provider.name}")
            return f"${{{provider.key_variable}}}"
        return self._secret(place, "api_key", key, provider.name)

    def _secret(self, place: str, field_name: str, value: Any, owner: str) -> str:
        """A variable for a secret; one in clear gets a name and is not copied."""
        if match := _ENVIRONMENT.match(str(value)):
            self._done.variables.setdefault(match.group(1), f"{field_name} of {owner}")
            return f"${{{match.group(1)}}}"
        variable = re.sub(r"[^A-Z0-9]+", "_", f"{owner}_{field_name.rpartition('.')[2]}".upper())
        variable = _free(variable.strip("_"), self._done.variables, "_")
        self._done.variables[variable] = f"{field_name} of {owner}, which stood in clear"
        self._note(place, f"`{field_name}` stood in clear and is not copied: set {variable}")
        return f"${{{variable}}}"

    def _value(self, value: Any) -> str:
        """A text that may come from the environment and is no secret."""
        if match := _ENVIRONMENT.match(str(value)):
            self._done.variables.setdefault(match.group(1), "an address or a name")
            return f"${{{match.group(1)}}}"
        return str(value)

    # --- groups, routes ----------------------------------------------------------------------

    def _name(self, groups: Mapping[str, list[Entry]], routed: set[str]) -> None:
        """A group that becomes a route keeps its name for it; its model gets the upstreams'."""
        for group, entries in groups.items():
            name = group
            if group in routed:
                upstreams = list(dict.fromkeys(entry.placed["upstream"] for entry in entries))
                name = f"{group}@{'+'.join(upstreams) if len(upstreams) < 4 else 'several'}"
            name = _free(name, {*self._models, *groups} - {group} | {*self._models})
            strategy = self._section("router_settings").get("routing_strategy")
            note = partial(self._note, f"model group {group}")
            self._models[name] = model_of(entries, strategy, _ALL, note)
            self._groups[group] = name

    def _routes(
        self, routed: set[str], fallbacks: Mapping[str, list[str]], aliases: Mapping[str, str]
    ) -> dict[str, Any]:
        routes: dict[str, Any] = {}
        for group, model in self._groups.items():
            if group not in routed:
                continue
            spare = [self._groups[other] for other in fallbacks.get(group, ())]
            route: dict[str, Any] = {"candidates": [model], "router": None}
            if called := [alias for alias, target in aliases.items() if target == group]:
                route["aliases"] = called
            if names := [name for name in dict.fromkeys(spare) if name != model]:
                route["fallbacks"] = names
            routes[group] = route
        if "auto" not in {*routes, *self._models, *aliases}:
            routes["auto"] = {"candidates": list(self._groups.values())}
        return routes

    def _fallbacks(self, groups: Mapping[str, Any]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for section in ("litellm_settings", "router_settings"):
            settings = self._section(section)
            for entry in settings.get("fallbacks") or ():
                for group, targets in entry.items() if isinstance(entry, dict) else ():
                    place = f"{section}.fallbacks.{group}"
                    found.setdefault(_name(str(group)), []).extend(
                        self._known(place, targets, groups)
                    )
            defaults = self._known(
                f"{section}.default_fallbacks", settings.get("default_fallbacks") or [], groups
            )
            for group in groups:
                found.setdefault(group, []).extend(each for each in defaults if each != group)
        for group in [group for group in found if group not in groups]:
            self._note("fallbacks", f"`{group}` is no model group")
        return {group: list(dict.fromkeys(targets)) for group, targets in found.items()}

    def _known(self, place: str, targets: Any, groups: Mapping[str, Any]) -> list[str]:
        known = []
        for target in targets if isinstance(targets, list) else [targets]:
            if isinstance(target, str) and _name(target) in groups:
                known.append(_name(target))
            else:
                self._note(place, f"`{target}` is no model group that was carried over")
        return known

    def _aliases(self, groups: Mapping[str, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        for alias, target in (
            self._section("router_settings").get("model_group_alias") or {}
        ).items():
            target = target.get("model") if isinstance(target, dict) else target
            if str(alias) in groups or RESERVED.match(str(alias)) or _name(str(alias)) != alias:
                self._note("router_settings.model_group_alias", f"`{alias}` can't be an alias")
            elif isinstance(target, str) and _name(target) in groups:
                found[str(alias)] = _name(target)
            else:
                self._note("router_settings.model_group_alias", f"`{alias}` has no target here")
        return found

    def _section(self, name: str) -> Mapping[str, Any]:
        section = self._written.get(name)
        return section if isinstance(section, dict) else {}

    def _left_over(self) -> None:
        for section, values in self._written.items():
            if section == "model_list":
                continue
            if not isinstance(values, dict):
                self._note(str(section), "is not carried over")
                continue
            for key, value in values.items():
                if key == "routing_strategy" and value not in BALANCE:
                    self._note(f"{section}.{key}", f"`{value}` has no counterpart: by weight")
                elif key not in _CARRIED.get(section, ()):
                    self._note(f"{section}.{key}", f"is {_not_carried(section, key)}")


def _not_carried(section: str, key: str) -> str:
    instead = _INSTEAD.get(f"{section}.{key}")
    return "not carried over" + (f": {instead}" if instead else "")


def _name(text: str) -> str:
    """A name that our YAML takes."""
    name = re.sub(r"[^A-Za-z0-9._:/@+-]+", "-", text).strip("-")[:100]
    name = re.sub(r"^[^A-Za-z0-9]+", "", name) or "model"
    return f"{name}-model" if RESERVED.match(name) else name


def _free(name: str, taken: Any, joint: str = "-") -> str:
    if name not in taken:
        return name
    return next(
        f"{name}{joint}{number}"
        for number in range(2, 10_000)
        if f"{name}{joint}{number}" not in taken
    )
