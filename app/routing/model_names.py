"""One name for one model, however a benchmark, a provider or a config file spells it.

"meta-llama/Llama-3.1-70B-Instruct", "Meta-Llama-3_1-70B-Instruct" and
"meta-llama-3.1-70b-instruct@host" are one model. A name without a date means its newest dated
version, as it does with the providers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_MINOR_VERSION = re.compile(r"(?<=\d)_(?=\d)")
_DATE = re.compile(r"-(20\d{2}-?\d{2}-?\d{2})$")


def canonical_name(name: str) -> str:
    """The name without organisation and host, with dots in its version: what outcomes are filed
    under.
    """
    bare = name.strip().rsplit("/", 1)[-1].partition("@")[0]
    return _MINOR_VERSION.sub(".", bare) or name


def lookup_key(name: str) -> str:
    """What two spellings of one model have in common."""
    key = canonical_name(name).casefold().removeprefix("meta-")
    return f"{key}ruct" if key.endswith("-inst") else key


class ModelNames:
    """Finds the known model that a name means."""

    def __init__(self, known: Iterable[str]) -> None:
        self._by_key: dict[str, str] = {}
        newest: dict[str, tuple[str, str]] = {}
        for name in known:
            key = lookup_key(name)
            self._by_key.setdefault(key, name)
            dated = _DATE.search(key)
            if dated:
                family = key[: dated.start()]
                newest[family] = max(newest.get(family, ("", "")), (dated.group(1), name))
        for family, (_, name) in newest.items():
            self._by_key.setdefault(family, name)

    def find(self, name: str) -> str | None:
        return self._by_key.get(lookup_key(name))
