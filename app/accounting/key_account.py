"""What is told of a key, at the admin doors and by the command line: everything but its text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from app.config import schema

if TYPE_CHECKING:
    from app.accounting.key_store import KeptKey


def account(key: KeptKey, now: float) -> dict[str, Any]:
    """A key of the database; moments as ISO 8601 in UTC."""
    told = _terms(key.id, key.terms, now)
    told["source"] = "database"
    told["created"] = _moment(key.created)
    if key.revoked is not None:
        told |= {"status": "revoked", "revoked": _moment(key.revoked)}
    if key.former_until is not None and now < key.former_until:
        told["former_text_valid_until"] = _moment(key.former_until)
    return told


def account_of_declared(key: schema.Key, now: float) -> dict[str, Any]:
    """A key of the YAML."""
    return {**_terms(key.id, key, now), "source": "config"}


def _terms(key_id: str, terms: schema.KeyTerms, now: float) -> dict[str, Any]:
    expires = None if terms.expires is None else terms.expires.timestamp()
    fields = terms.model_dump(mode="json", include=set(schema.KeyTerms.model_fields))
    if fields["routes"] is not None or fields["models"] is not None:
        # As it is meant: a scope on one of the two closes the other.
        fields |= {"routes": fields["routes"] or [], "models": fields["models"] or []}
    return {
        "id": key_id,
        **fields,
        "name": terms.name or key_id,
        "expires": None if expires is None else _moment(expires),
        "status": "active" if expires is None or now < expires else "expired",
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
