"""`pointsman eval`: a router and outcome files in; how well it chooses on prompts it was not
trained on, beside what simpler methods would do.
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

    from app.lab.measuring import Measurement, MeasureSettings
    from app.routing.artifact import Artifact
    from app.routing.encoder.base import Encoder


@click.command(name="eval")
@click.option("--router", required=True, help="A router's directory, or a name in router_models.")
@lab.outcome_files
@click.option("--strong", help="The stronger model of the pair; --weak belongs to it.")
@click.option("--weak", help="The cheaper model of the pair.")
@click.option("--models", help="Only these models, separated by commas.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page with plots (.html), and the plots beside it. Needs the `lab` extra.",
)
@click.option(
    "--leave-out",
    type=click.Choice(["question", "prompt"]),
    default="question",
    show_default=True,
    help="What must not have been trained on: the question, whatever its options, or only the "
    "whole prompt, as in published figures.",
)
@click.option(
    "--robustness",
    default=100,
    show_default=True,
    type=click.IntRange(min=0),
    help="Prompts of each source that are reworded in five ways; 0 for none.",
)
@click.option("--seed", default=0, show_default=True)
@lab.encoding
@click.option(
    "--limit", type=click.IntRange(min=30), help="Score at most this many prompts of each source."
)
def command(
    router: str,
    first: tuple[Path, ...],
    more: tuple[Path, ...],
    strong: str | None,
    weak: str | None,
    models: str | None,
    as_json: bool,
    report: Path | None,
    leave_out: Any,
    robustness: int,
    seed: int,
    cache: Path | None,
    limit: int | None,
    encoder_directory: Path,
) -> None:
    """Score a router on prompts it was not trained on, beside simpler methods."""
    from rich.console import Console

    from app.errors import PointsmanError
    from app.lab.measuring import MeasureSettings

    settings = MeasureSettings(
        strong=strong,
        weak=weak,
        models=lab.names(models),
        leave_out=leave_out,
        robustness=robustness,
        limit=limit,
        seed=seed,
    )
    console = Console(stderr=True)
    try:
        if report is not None:
            from app.lab.plots import require_matplotlib

            require_matplotlib()
        artifact, encoder = lab.open_router(router, encoder_directory)
        found = _run(console, artifact, encoder, (*first, *more), settings, cache)
        written = _report(report, artifact, found) if report is not None else []
    except PointsmanError as error:
        raise Refused(str(error)) from error
    if as_json:
        told = {**found.as_dict(), "report": [str(path) for path in written]}
        click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
        return
    from app.cli.eval_tables import show

    show(found, written)


def _run(
    console: Console,
    artifact: Artifact,
    encoder: Encoder,
    files: Sequence[Path],
    settings: MeasureSettings,
    cache: Path | None,
) -> Measurement:
    from app.lab.embedding import EmbeddingCache, default_cache
    from app.lab.measuring import measure
    from app.lab.outcomes import build_table, read_outcomes
    from app.lab.train import one_thread

    table = build_table(read_outcomes(files), merge=False)
    vectors = EmbeddingCache(cache or default_cache(), encoder.fingerprint)
    with one_thread(), lab.stages(console) as stage:
        return measure(artifact, encoder, table, settings, cache=vectors, stage=stage)


def _report(file: Path, artifact: Artifact, found: Measurement) -> list[Path]:
    from app.lab.report import write_report

    return write_report(file, found, artifact.manifest)
