"""What bounds a request's cost, by the request itself and its facts."""

from __future__ import annotations

from app.accounting.most import Size
from app.catalog.prices import DAY_SECONDS
from app.exchange.request import Request
from app.routing.facts import Facts

_NOT_TEXT = frozenset({"vision", "audio", "files"})


def size(request: Request, facts: Facts, at: float) -> Size:
    """Its size in tokens, and the day of `at` (seconds since 1970), at whose prices it is billed.

    Images, audio and files count at twice what is usual of them: given by name alone, nothing in
    the request bounds them.
    """
    most = len(request.body)
    if facts.needs & _NOT_TEXT:
        most += 2 * facts.input_tokens
    # Servers differ in which of the two they heed.
    ends = [request.payload.get(name) or 0 for name in ("max_completion_tokens", "max_tokens")]
    day = int(at // DAY_SECONDS)
    return Size(most, facts.input_tokens, max(ends) or None, facts.choices, day)
