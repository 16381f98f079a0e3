"""The written form of how long a conversation stays with its model. docs/conversations.md."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from app.config.fields import Seconds, Written


class Affinity(Written):
    """When a conversation may change its model."""

    ttl_seconds: Annotated[float, Field(gt=0, le=2_592_000)] = Field(
        default=3_600, description="A conversation that is quiet for so long is forgotten."
    )
    warm_seconds: Seconds = Field(
        default=300, description="For so long after a request the prompt cache is taken to last."
    )
    remaining_turns: float = Field(
        default=3,
        ge=1,
        le=1_000,
        description="Requests that a conversation is expected to have yet, this one included.",
    )
    escalate_after: int = Field(
        default=3,
        ge=0,
        le=100,
        description="So many failing tool results in a row move it to the next stronger candidate; "
        "0: never.",
    )


def _form(written: object) -> str | None:
    if isinstance(written, bool):
        return "switch"
    return "terms" if isinstance(written, dict | Affinity) else None


AffinityOrSwitch = Annotated[
    Annotated[bool, Tag("switch")] | Annotated[Affinity, Tag("terms")],
    Discriminator(
        _form,
        custom_error_type="form_of_affinity",
        custom_error_message="must be true, false, or settings such as {escalate_after: 0}",
    ),
]
