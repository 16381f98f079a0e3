"""`pointsman models`: what a router has outcomes of, for `like:`."""

from __future__ import annotations

import click
import orjson


@click.command(name="models")
@click.option("--router", default="default", show_default=True, help="A name or a directory.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(router: str, as_json: bool) -> None:
    """List the models that a router has outcomes of: what `like:` may name."""
    from pathlib import Path

    from app.compiling import router_directory
    from app.routing.artifact import load_artifact

    models = load_artifact(router_directory(router, Path())).models
    if as_json:
        click.echo(orjson.dumps(list(models)))
    else:
        click.echo("\n".join(models))
