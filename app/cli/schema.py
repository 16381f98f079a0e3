"""`pointsman schema`: the JSON Schema of the configuration, for editors."""

from __future__ import annotations

import click
import orjson

from app.config.schema import Config


def document() -> bytes:
    """The schema file as it is published in configs/schema.json."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Pointsman configuration",
        **Config.model_json_schema(),
    }
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2) + b"\n"


@click.command(name="schema")
def command() -> None:
    """Print the JSON Schema of the configuration (published as configs/schema.json)."""
    click.echo(document().decode(), nl=False)
