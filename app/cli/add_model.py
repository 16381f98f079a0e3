"""`pointsman add-model`: a new model joins a trained router from some scored prompts, without
training it again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson

from app.cli import lab

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from app.lab.add_model import Newcomer
    from app.routing.artifact import Artifact
    from app.routing.encoder.base import Encoder


SHOWN = 8
"""Of the known models, those that weigh most."""


@click.command()
@click.option("--router", required=True, help="A router: a directory, or a name in router_models/.")
@click.option("--model", required=True, help="The new model's name in the outcome files.")
@click.option(
    "--outcomes",
    "files",
    required=True,
    multiple=True,
    type=lab.FILE,
    help="What it scored; 200 prompts are a good number. May be given several times.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Directory to write; may be the router's own.",
)
@click.option("--replace", is_flag=True, help="Fit a model anew that joined before.")
@lab.encoding
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    router: str,
    model: str,
    files: tuple[Path, ...],
    out: Path,
    replace: bool,
    encoder_directory: Path,
    cache: Path | None,
    as_json: bool,
) -> None:
    """Let a model join a trained router from a few hundred scored prompts."""
    from rich.console import Console

    from app.lab.add_model import check_kind, check_name, write_joined

    artifact, encoder = lab.open_router(router, encoder_directory)
    check_kind(artifact)
    check_name(artifact, model, may_replace=replace)
    newcomer = _join(Console(stderr=True), (artifact, encoder), model, files, cache)
    check_name(artifact, newcomer.entry.name, may_replace=replace)
    promises = write_joined(artifact, newcomer, out)
    if as_json:
        told = {
            "out": str(out),
            "joined": newcomer.entry.model_dump(mode="json"),
            "promises": list(promises),
        }
        click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(Console(), out, newcomer, promises)


def _join(
    console: Console,
    router: tuple[Artifact, Encoder],
    model: str,
    files: Sequence[Path],
    cache: Path | None,
) -> Newcomer:
    from app.lab import add_model
    from app.lab.embedding import EmbeddingCache, default_cache, embed_all
    from app.lab.outcomes import build_table, read_outcomes
    from app.lab.sources import refuse_evaluation_only
    from app.lab.train import one_thread

    artifact, encoder = router
    outcomes = read_outcomes(files)
    refuse_evaluation_only(outcomes)
    table, column = add_model.rows_of(build_table(outcomes), model)
    remembered = EmbeddingCache(cache or default_cache(), encoder.fingerprint)
    with one_thread(), lab.bars(console) as progress:
        task = progress.add_task("Encoding prompts", total=len(table))
        vectors = embed_all(encoder, table.prompts, remembered, lambda n: progress.advance(task, n))
        task = progress.add_task("Asking the router", total=len(table))
        known = add_model.ask(artifact, table, vectors, lambda n: progress.advance(task, n))
        return add_model.join(artifact, table, vectors, known, column, files)


def _print(console: Console, out: Path, newcomer: Newcomer, promises: Sequence[str]) -> None:
    from rich.markup import escape
    from rich.table import Table

    entry = newcomer.entry
    console.print(
        f"[bold]{escape(entry.name)}[/bold] joined from {entry.prompts:,} prompts with a mean "
        f"score of {entry.mean_score:.3f}; written to {out}"
    )
    table = Table()
    table.add_column("mean log-loss on these prompts")
    table.add_column("", justify="right")
    fitted = entry.fitted
    for name, value in (
        ("as it joined, fitted on them", fitted.log_loss),
        ("as it joined, cross-validated", fitted.cross_validated),
        (f"like {fitted.best_known}, shifted", fitted.best_known_cross_validated),
        ("their mean score alone", fitted.mean_alone),
    ):
        table.add_row(escape(name), f"{value:.4f}")
    console.print(table)
    table = Table()
    table.add_column("made of, above all")
    table.add_column("weight", justify="right")
    for name, weight in sorted(entry.weights.items(), key=lambda each: -abs(each[1]))[:SHOWN]:
        table.add_row(escape(name), f"{weight:+.2f}")
    console.print(table)
    if fitted.cross_validated > fitted.mean_alone:
        console.print(
            "On prompts left out, its mean score alone says as much: more prompts would help, or "
            "prompts of the kind that the router knows."
        )
    for line in promises:
        console.print(line[0].upper() + line[1:] + ".")
