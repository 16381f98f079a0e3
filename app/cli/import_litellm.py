"""`pointsman import-litellm`: the configuration of a LiteLLM proxy as one of ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.options import Refused
from app.errors import ConfigError, DataError

if TYPE_CHECKING:
    from app.config.litellm import Imported


@click.command(name="import-litellm")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write it here, not to stdout."
)
def command(file: Path, out: Path | None) -> None:
    """Turn the config.yaml of a LiteLLM proxy into a configuration of Pointsman.

    Everything that could not be carried over is told, a line each.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    from app.config.litellm import convert

    if out is not None and out.exists():
        raise Refused(f"{out} exists; name another file")
    try:
        written = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise DataError(f"{file}{line}: not YAML: {error.problem}") from error
    except (YAMLError, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{file}: not YAML: {error}") from error
    made = convert(written, str(file))
    text = _text(made, file.name)
    _check(text, made, file)
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
    for note in made.notes:
        click.echo(f"note: {note}", err=True)
    for variable, what in made.variables.items():
        click.echo(f"set {variable}: {what}", err=True)
    if out is not None:
        counts = ", ".join(f"{len(part)} {name}" for name, part in made.config.items())
        click.echo(f"{out}: {counts}; now run `pointsman check {out}`", err=True)


def _text(made: Imported, source: str) -> str:
    from io import StringIO

    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    def formed(value: object, depth: int) -> object:
        """Entries a line each, what is inside them in one line."""
        if isinstance(value, dict):
            mapping = CommentedMap((key, formed(inner, depth + 1)) for key, inner in value.items())
            if depth > 2:
                mapping.fa.set_flow_style()
            return mapping
        if isinstance(value, list):
            sequence = CommentedSeq(formed(inner, depth + 1) for inner in value)
            sequence.fa.set_flow_style()
            return sequence
        return value

    yaml = YAML()
    yaml.width = 100
    yaml.representer.add_representer(
        type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    stream = StringIO()
    stream.write(f"# Made of {source} by `pointsman import-litellm`. Prices change: check them.\n")
    yaml.dump(formed(made.config, 0), stream)
    return stream.getvalue()


def _check(text: str, made: Imported, file: Path) -> None:
    """What is written must be valid once its variables are set. Raises DataError."""
    from app.config.load import loads

    try:
        loads(text, dict.fromkeys(made.variables, "https://set.invalid"))
    except ConfigError as error:
        raise DataError(f"{file}: what comes of it is not valid:\n{error}") from error
