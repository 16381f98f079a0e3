"""`pointsman train`: outcome files in, a router directory out, with its figures on prompts it was
not trained on.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from app.cli import lab

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from app.lab.evaluation import PairResult


@click.command()
@lab.outcome_files
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option(
    "--estimator",
    type=click.Choice(lab.ESTIMATORS),
    default=lab.ESTIMATORS[0],
    show_default=True,
    help="The kind of estimator.",
)
@click.option("--models", help="Only these models, separated by commas.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--test-share",
    default=0.15,
    show_default=True,
    type=click.FloatRange(0.0, 0.5),
    help="Share of questions kept out of training and scored.",
)
@lab.encoding
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    first: tuple[Path, ...],
    more: tuple[Path, ...],
    out: Path,
    estimator: str,
    models: str | None,
    seed: int,
    test_share: float,
    encoder_directory: Path,
    cache: Path | None,
    as_json: bool,
) -> None:
    """Train a router from outcomes: what each of several models scored on each of many prompts."""
    from rich.console import Console

    from app.errors import PointsmanError
    from app.lab.train import TrainSettings

    console = Console(stderr=True)
    settings = TrainSettings(
        seed=seed, test_share=test_share, estimator=estimator, encoder=encoder_directory
    )
    wanted = lab.names(models)
    try:
        manifest, results = _run(
            console, (*first, *more), out, wanted, settings, encoder_directory, cache
        )
    except PointsmanError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        report = {"out": str(out), "manifest": manifest, "test": [r.as_dict() for r in results]}
        click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(Console(), out, manifest, results)


def _run(
    console: Console,
    files: Sequence[Path],
    out: Path,
    models: Sequence[str] | None,
    settings: Any,
    encoder_directory: Path,
    cache_directory: Path | None,
) -> tuple[dict[str, Any], list[PairResult]]:
    from app.lab.embedding import EmbeddingCache, default_cache, embed_all
    from app.lab.evaluation import evaluate_pairs
    from app.lab.outcomes import build_table, read_outcomes, split
    from app.lab.provenance import describe, encoder_entry
    from app.lab.sources import refuse_evaluation_only
    from app.lab.train import one_thread, train, write_router
    from app.routing.artifact import load_artifact
    from app.routing.encoder.onnx import OnnxEncoder
    from app.routing.estimators.classifier import read_heads

    encoder = OnnxEncoder(encoder_directory)
    if settings.estimator == "classifier":
        read_heads(encoder_directory)  # Encoding takes minutes; what is missing is said before.
    rows = read_outcomes(files)
    refuse_evaluation_only(rows)
    train_rows, _ = split(build_table(rows, models=models), settings.test_share)
    apart_train, apart_test = split(
        build_table(rows, models=models, merge=False), settings.test_share
    )
    cache = EmbeddingCache(cache_directory or default_cache(), encoder.fingerprint)
    with lab.bars(console) as progress:
        task = progress.add_task("Encoding prompts", total=len(train_rows) + len(apart_test))
        vectors = embed_all(encoder, train_rows.prompts, cache, lambda n: progress.advance(task, n))
        test_vectors = embed_all(
            encoder, apart_test.prompts, cache, lambda n: progress.advance(task, n)
        )
        task = progress.add_task("Fitting", total=2 * len(train_rows))
        router = train(train_rows, vectors, settings, lambda n: progress.advance(task, n))
        task = progress.add_task("Writing and scoring", total=2)
        manifest = write_router(
            router,
            out,
            encoder_entry(encoder_directory),
            describe(files, train_rows, models, settings),
        )
        progress.advance(task)
        with one_thread():
            results = evaluate_pairs(
                load_artifact(out), apart_train, apart_test, test_vectors, seed=settings.seed
            )
        progress.advance(task)
    return manifest, results


def _print(
    console: Console, out: Path, manifest: dict[str, Any], results: Sequence[PairResult]
) -> None:
    from rich.table import Table

    size = sum(entry["bytes"] for entry in manifest["files"].values())
    console.print(
        f"[bold]{out}[/bold]: {manifest['rows']} prompts, {len(manifest['models'])} models, "
        f"{size / 1e6:.1f} MB"
    )
    if not results:
        console.print("No pair of models has enough test prompts to score.")
        return
    table = Table(title="On prompts kept out of training")
    for heading in ("source", "strong", "weak"):
        table.add_column(heading)
    for heading in ("prompts", "weak", "strong", "APGR", "90 %", "task mean", "CPT50", "CPT80"):
        table.add_column(heading, justify="right")
    for result in results:
        table.add_row(
            result.source,
            result.strong,
            result.weak,
            str(result.rows),
            f"{result.weak_quality:.3f}",
            f"{result.strong_quality:.3f}",
            f"{result.apgr:.3f}",
            _interval(result),
            f"{result.apgr_task_mean:.3f}",
            f"{result.cpt50:.1%}",
            f"{result.cpt80:.1%}",
        )
    console.print(table)


def _interval(result: PairResult) -> str:
    """Empty where some resample has no advantage to keep: the strong model is not better in it."""
    if math.isnan(result.apgr_low):
        return "-"
    return f"{result.apgr_low:.3f}-{result.apgr_high:.3f}"
