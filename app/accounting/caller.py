"""Who asks: what admission knows of a caller once its key was checked."""

from __future__ import annotations

from dataclasses import dataclass

from app.accounting.limits import Limits


@dataclass(frozen=True, slots=True)
class Caller:
    """One caller. `key_id` is None where no key is asked for; it is not the key, and may be shown.

    `routes` and `models` are the names it may ask for, None for all of them; `admin`
    opens the admin doors and `metrics` the metrics.
    """

    key_id: str | None = None
    name: str = "anonymous"
    tags: tuple[str, ...] = ()
    routes: frozenset[str] | None = None
    models: frozenset[str] | None = None
    admin: bool = False
    metrics: bool = False
    limits: Limits | None = None

    @property
    def scoped(self) -> bool:
        return self.routes is not None or self.models is not None


ANONYMOUS = Caller()
