"""Where the public outcomes come from: what a router's manifest must name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from app.errors import DataError

if TYPE_CHECKING:
    from app.lab.rows import OutcomeRow

KNOWN_SOURCES: Mapping[str, Mapping[str, str]] = {
    "routellm_mmlu": {
        "repository": "lm-sys/RouteLLM",
        "commit": "0b64fda",
        "licence": "Apache-2.0",
    },
    "routellm_gsm8k": {
        "repository": "lm-sys/RouteLLM",
        "commit": "0b64fda",
        "licence": "Apache-2.0",
    },
    "routellm_mtbench": {
        "repository": "lm-sys/RouteLLM",
        "commit": "0b64fda",
        "licence": "Apache-2.0",
    },
    "mmlu_pro": {
        "repository": "TIGER-AI-Lab/MMLU-Pro",
        "commit": "f418b11",
        "licence": "Apache-2.0",
    },
    "zeroeval": {"repository": "WildEval/ZeroEval", "commit": "8c1485e", "licence": "Apache-2.0"},
    "routerarena": {
        "repository": "RouteWorks/RouterArena",
        "commit": "4714a9a",
        "licence": "Apache-2.0",
    },
    "llmrouter": {"repository": "ulab-uiuc/LLMRouter", "commit": "4e7a796", "licence": "MIT"},
}

EVALUATION_ONLY = frozenset({"routerarena"})
"""Published for evaluation only, by their authors' rule."""


def describe_sources(sources: Iterable[str]) -> dict[str, dict[str, str]]:
    """What is known of each source; a source of the user's own has no entry but its name."""
    return {source: dict(KNOWN_SOURCES.get(source, {})) for source in sorted(set(sources))}


def refuse_evaluation_only(rows: Iterable[OutcomeRow]) -> None:
    """Raises DataError if a row comes from a source that may be scored but not trained on."""
    for row in rows:
        if row.source.casefold() in EVALUATION_ONLY:
            raise DataError(
                f"row {row.id}: field source: {row.source} is published for evaluation only, by "
                "its authors' rule; leave its file out here, and score the router on it instead"
            )
