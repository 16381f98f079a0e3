"""`pointsman check`: compile a configuration without serving, and report every error at once."""

from __future__ import annotations

from pathlib import Path

import click
import orjson
from click.core import ParameterSource

from app.cli.options import CONFIG_FILE, CONFIG_VARIABLE
from app.errors import ConfigError, Problem


@click.command(name="check")
@click.argument("file", required=False, type=CONFIG_FILE)
@click.option(
    "--config",
    "named",
    type=CONFIG_FILE,
    envvar=CONFIG_VARIABLE,
    show_envvar=True,
    help="The same FILE, as `serve` takes it.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.pass_context
def command(ctx: click.Context, file: Path | None, named: Path | None, as_json: bool) -> None:
    """Check FILE: shape, names, router artifacts, environment. Exit 1 if anything is wrong."""
    twice = file is not None and ctx.get_parameter_source("named") is ParameterSource.COMMANDLINE
    chosen = file or named
    if twice or chosen is None:
        raise click.UsageError("name one file: `pointsman check my.yaml`", ctx)
    _check(chosen, as_json=as_json)


def _check(file: Path, *, as_json: bool) -> None:
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
            f"{file}: valid; {_counted(len(compiled.config.upstreams), 'upstream')}, "
            f"{_counted(len(compiled.models), 'model')}, {_counted(len(routes), 'route')}"
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
        ending = f"{_counted(len(problems), 'problem')} found."
        click.echo(ending if problems else summary, err=bool(problems))
    raise SystemExit(1 if problems else 0)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _told(p: Problem) -> dict[str, str | int | None]:
    return {"file": p.file, "line": p.line, "path": p.path, "message": p.message, "hint": p.hint}
