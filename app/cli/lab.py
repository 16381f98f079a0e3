"""What the commands of the lab have in common: outcome files as arguments, a router with its
encoder, bars on the console.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from app.routing.artifact import Artifact
    from app.routing.encoder.base import Encoder

DEFAULT_ENCODER = Path(__file__).resolve().parents[2] / "router_models" / "encoder-minilm"
ESTIMATORS = (
    "stack",
    "blend",
    "knn",
    "clusters",
    "pools",
    "similarity-weighted",
    "matrix-factorization",
    "classifier",
    "meta-regression",
    "text",
)
"""Kinds of estimator, the default first: those of `app.routing.estimators.kinds`, which takes numpy
to ask; a test holds them together.
"""
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def outcome_files(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--data FILE...`: click takes one value an option, so what follows it is an argument."""
    command = click.argument("more", nargs=-1, type=FILE, metavar="[FILE]...")(command)
    return click.option(
        "--data",
        "first",
        multiple=True,
        required=True,
        type=FILE,
        help="Outcome files (.jsonl, .csv, both also .gz, .parquet); several may follow one "
        "--data.",
    )(command)


def encoding(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which encoder, and where its vectors are remembered."""
    command = click.option(
        "--cache", type=click.Path(path_type=Path), help="Where vectors are remembered."
    )(command)
    return click.option(
        "--encoder",
        "encoder_directory",
        default=DEFAULT_ENCODER,
        show_default="the shipped one",
        type=click.Path(path_type=Path),
        help="A directory, as `encoder export` writes it.",
    )(command)


def names(written: str | None) -> list[str] | None:
    """Names separated by commas; None where none are given."""
    return [name.strip() for name in written.split(",") if name.strip()] if written else None


def open_router(name: str, encoder_directory: Path) -> tuple[Artifact, Encoder]:
    """A router and its encoder. Raises ArtifactError where they do not belong together."""
    from app.compiling import router_directory
    from app.errors import ArtifactError
    from app.routing.artifact import load_artifact
    from app.routing.encoder.onnx import OnnxEncoder

    artifact = load_artifact(router_directory(name, Path()))
    encoder = OnnxEncoder(encoder_directory)
    if artifact.encoder_fingerprint != encoder.fingerprint:
        trained = artifact.manifest["encoder"]
        raise ArtifactError(
            f"router {artifact.directory} was trained with the encoder {trained.get('name')} "
            f"({artifact.encoder_fingerprint}), not with {encoder_directory} "
            f"({encoder.fingerprint}); name its encoder with --encoder"
        )
    return artifact, encoder


def bars(console: Console, **options: Any) -> Any:
    """A rich Progress that counts."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description:<32}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        **options,
    )


@contextmanager
def stages(console: Console) -> Iterator[Callable[[str, int], Callable[[int], None]]]:
    """Bars on the console, gone at the end: begins one with a name and a total, returns what moves
    it.
    """
    with bars(console, transient=True) as progress:

        def stage(name: str, total: int) -> Callable[[int], None]:
            task = progress.add_task(name, total=total)
            return lambda done: progress.advance(task, done)

        yield stage
