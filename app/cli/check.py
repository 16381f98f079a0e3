"""`pointsman check`: compile a configuration without serving, and report every error at once."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from app.errors import ConfigError, Problem


@click.command(name="check")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(file: Path, as_json: bool) -> None:
    """Check FILE: shape, names, router artifacts, environment. Exit 1 if anything is wrong."""
    from app.compiling import compile_config
    from app.config.load import load

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    summary = ""
    ready: dict[str, str] = {}
    try:
        compiled = compile_config(load(file))
        warnings = compiled.warnings
        routes = {route.name for route in compiled.names.routes.values()}
        summary = (
            f"{file}: valid; {len(compiled.config.upstreams)} upstreams, "
            f"{len(compiled.models)} models, {len(routes)} routes"
        )
        ready = {name: one.provider for name, one in compiled.ready.items()}
    except ConfigError as error:
        problems = error.problems
    if as_json:
        told = {"problems": [*map(_told, problems)], "warnings": [*map(_told, warnings)]}
        click.echo(orjson.dumps({"valid": not problems, **told, "ready_prices": ready}))
    else:
        for warning in warnings:
            click.echo(f"warning: {warning}", err=True)
        if ready:
            from app.catalog.ready import version

            told_of = ", ".join(f"{name} ({provider})" for name, provider in ready.items())
            click.echo(f"ready prices of {version()}: {told_of}")
        for problem in problems:
            click.echo(str(problem), err=True)
        ending = f"{len(problems)} problem{'s' * (len(problems) > 1)} found."
        click.echo(ending if problems else summary, err=bool(problems))
    raise SystemExit(1 if problems else 0)


def _told(p: Problem) -> dict[str, str | int | None]:
    return {"file": p.file, "line": p.line, "path": p.path, "message": p.message, "hint": p.hint}
