"""`pointsman compare`: outcome files in; how well routers of each kind choose where they were not
trained, by nested cross-validation, beside what simpler methods would do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from app.cli import lab
from app.cli.options import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from app.lab.comparing import CompareSettings, Comparison


@click.command(name="compare")
@lab.outcome_files
@click.option(
    "--estimators",
    help="Only these kinds, separated by commas; the others are compared with the first.",
)
@click.option(
    "--folds",
    default=5,
    show_default=True,
    type=click.IntRange(min=0),
    help="Parts of the questions, each left out once; with --leave-out-task groups of tasks, "
    "0 for one task at a time.",
)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--strong", help="The stronger model of the pair; --weak belongs to it.")
@click.option("--weak", help="The cheaper model of the pair.")
@click.option("--models", help="Only these models, separated by commas.")
@click.option(
    "--labels",
    type=click.IntRange(min=1),
    help="Learn from this many rows of each scored source at most, and from others whole.",
)
@click.option(
    "--leave-out-task",
    "by_task",
    is_flag=True,
    help="Leave out whole tasks: what a router is worth on work it has no labels of.",
)
@click.option(
    "--leave-out",
    type=click.Choice(["question", "prompt"]),
    default="question",
    show_default=True,
    help="What a fold leaves out: the question, whatever its options, or only the whole prompt, as "
    "in published figures.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page with plots (.html). Needs the `lab` extra.",
)
@lab.encoding
def command(
    first: tuple[Path, ...],
    more: tuple[Path, ...],
    estimators: str | None,
    folds: int,
    seeds: int,
    strong: str | None,
    weak: str | None,
    models: str | None,
    labels: int | None,
    by_task: bool,
    leave_out: Any,
    as_json: bool,
    report: Path | None,
    encoder_directory: Path,
    cache: Path | None,
) -> None:
    """Compare all kinds of estimator by nested cross-validation, beside simpler methods."""
    from rich.console import Console

    from app.errors import PointsmanError
    from app.lab.comparing import CompareSettings
    from app.lab.contestants import choose_kinds
    from app.routing.estimators.classifier import HEADS_FILE

    try:
        if report is not None:
            from app.lab.plots import require_matplotlib

            require_matplotlib()
        heads = (encoder_directory / HEADS_FILE).is_file()
        kinds, left_out = choose_kinds(lab.names(estimators), heads=heads)
        settings = CompareSettings(
            kinds=kinds,
            folds=folds,
            seeds=seeds,
            strong=strong,
            weak=weak,
            models=lab.names(models),
            labels=labels,
            by_task=by_task,
            leave_out=leave_out,
            encoder=encoder_directory,
        )
        found = _run(Console(stderr=True), (*first, *more), settings, encoder_directory, cache)
        written = _report(report, found) if report is not None else []
    except PointsmanError as error:
        raise Refused(str(error)) from error
    if as_json:
        told = {
            **found.as_dict(),
            "estimators_left_out": left_out,
            "report": [str(path) for path in written],
        }
        click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
        return
    from app.cli.compare_tables import show

    show(found, left_out, written)


def _run(
    console: Console,
    files: Sequence[Path],
    settings: CompareSettings,
    encoder_directory: Path,
    cache: Path | None,
) -> Comparison:
    from app.lab.comparing import compare
    from app.lab.embedding import EmbeddingCache, default_cache
    from app.lab.outcomes import read_outcomes
    from app.lab.sources import refuse_evaluation_only
    from app.lab.train import one_thread
    from app.routing.encoder.onnx import OnnxEncoder

    encoder = OnnxEncoder(encoder_directory)
    rows = read_outcomes(files)
    refuse_evaluation_only(rows)
    vectors = EmbeddingCache(cache or default_cache(), encoder.fingerprint)
    with one_thread(), lab.stages(console) as stage:
        return compare(rows, encoder, settings, cache=vectors, stage=stage)


def _report(file: Path, found: Comparison) -> list[Path]:
    from app.lab.compare_report import write_report

    return write_report(file, found)
