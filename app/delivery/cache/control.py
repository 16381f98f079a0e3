"""What a client wants of the cache: the request header `cache-control`, as far as it means
something here. Directives that it does not know are ignored, as HTTP has it."""

from __future__ import annotations

from dataclasses import dataclass

from app.errors import InvalidField


@dataclass(frozen=True, slots=True)
class CacheControl:
    """`max_age` in seconds, None if it was not said."""

    read: bool = True
    write: bool = True
    only: bool = False
    max_age: int | None = None


PLAIN = CacheControl()


def cache_control(header: str | None) -> CacheControl:
    """Of a header's value. Raises InvalidField."""
    if not header:
        return PLAIN
    said: dict[str, str] = {}
    for directive in header.split(","):
        name, _, value = directive.partition("=")
        said[name.strip().lower()] = value.strip().strip('"')
    max_age = None
    if "max-age" in said:
        text = said["max-age"]
        if not (text.isascii() and text.isdigit()):
            raise InvalidField(
                "`cache-control: max-age` must be a whole number of seconds, such as max-age=60.",
                param="cache-control",
            )
        max_age = int(text[:12])
    return CacheControl(
        read="no-cache" not in said and max_age != 0,
        write="no-store" not in said,
        only="only-if-cached" in said,
        max_age=max_age,
    )
