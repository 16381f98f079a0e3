"""`pointsman models`: what a router has outcomes of, for `like:`, and what joined it."""

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

    artifact = load_artifact(router_directory(router, Path()))
    if as_json:
        click.echo(orjson.dumps(list(artifact.all_models)))
        return
    click.echo("\n".join(artifact.models))
    if artifact.joined is not None:
        for name, model in artifact.joined.models.items():
            click.echo(f"{name}  (joined {model.date} from {model.prompts} prompts)")
