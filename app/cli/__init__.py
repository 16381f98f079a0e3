"""The `pointsman` command: a file for each of its commands, loaded only when it is called."""

from __future__ import annotations

import importlib
from typing import Any

import click

from app import __version__
from app.errors import PointsmanError

COMMANDS = {
    "add-model": "Let a model join a trained router from a few hundred scored prompts.",
    "calibrate": "Promise that a share of a strong model's quality is kept.",
    "check": "Check a configuration without serving it.",
    "compare": "Compare kinds of estimator where they were not trained.",
    "demo": "Send varied traffic through a gateway and show where it went and what it saved.",
    "encoder": "Export, check and tune encoders.",
    "eval": "Score a router on prompts it was not trained on.",
    "import-litellm": "Turn the configuration of a LiteLLM proxy into one of Pointsman's.",
    "keys": "Make, list, replace and revoke the keys of clients.",
    "models": "List the models that a router has outcomes of.",
    "route": "Explain where a prompt would go, without calling a model.",
    "schema": "Print the JSON Schema of the configuration.",
    "serve": "Serve a configuration.",
    "simulate": "Run the scripted upstream by itself.",
    "spend": "Show what was spent, on what.",
    "train": "Build a router from outcomes.",
}


class _Lazy(click.Group):
    """Imports a command's module when the command is used: `check` must not load faiss."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"app.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from app.config.names import nearest

            hint = nearest(args[0], COMMANDS)
            told = f"no command `{args[0]}`" + (f" ({hint})" if hint else "")
            raise click.UsageError(told, ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy)
@click.version_option(__version__, prog_name="pointsman")
def cli() -> None:
    """Pointsman sends each request to the cheapest model capable of it."""


def main(*args: Any, **kwargs: Any) -> None:
    """The entry point; an error made on purpose is a message, not a traceback."""
    try:
        cli(*args, **kwargs)
    except PointsmanError as error:
        click.echo(f"pointsman: {error}", err=True)
        raise SystemExit(2) from None
