"""`pointsman schema`: the JSON Schema of the configuration, for editors."""

from __future__ import annotations

from typing import Any

import click
import orjson

from app.config.schema import Config


def document() -> bytes:
    """The schema file as it is published in configs/schema.json."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_with_variables(Config.model_json_schema()),
        "title": "Pointsman configuration",
    }
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2) + b"\n"


def _with_variables(node: Any) -> Any:
    """Let a number also be written as `${NAME}`, which is filled in before it is checked."""
    if isinstance(node, list):
        return [_with_variables(item) for item in node]
    if not isinstance(node, dict):
        return node
    inner = {key: _with_variables(value) for key, value in node.items()}
    if node.get("type") not in ("number", "integer"):
        return inner
    kept = {key: inner.pop(key) for key in ("description", "default", "title") if key in inner}
    return {"anyOf": [inner, {"type": "string", "pattern": r"^\$\{.+\}$"}], **kept}


@click.command(name="schema")
def command() -> None:
    """Print the JSON Schema of the configuration (published as configs/schema.json)."""
    click.echo(document().decode(), nl=False)
