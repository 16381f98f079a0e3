"""`pointsman train`: outcome files in, a router directory out, with its figures on prompts it was
not trained on.
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

    from app.lab.embedding import EmbeddingCache
    from app.lab.figures import Assessment
    from app.lab.measuring import Measurement
    from app.lab.outcomes import OutcomeTable
    from app.lab.train import TrainSettings
    from app.routing.encoder.base import Encoder


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
        manifest, found = _run(
            console, (*first, *more), out, wanted, settings, encoder_directory, cache
        )
    except PointsmanError as error:
        raise Refused(str(error)) from error
    if as_json:
        test = None if found is None else found.as_dict()
        report = {"out": str(out), "manifest": manifest, "test": test}
        click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(out, manifest, found)


def _run(
    console: Console,
    files: Sequence[Path],
    out: Path,
    models: Sequence[str] | None,
    settings: Any,
    encoder_directory: Path,
    cache_directory: Path | None,
) -> tuple[dict[str, Any], Measurement | None]:
    from app.lab.embedding import EmbeddingCache, default_cache, embed_all
    from app.lab.outcomes import build_table, read_outcomes, split
    from app.lab.provenance import describe, encoder_entry
    from app.lab.sources import refuse_evaluation_only
    from app.lab.train import train, write_router
    from app.routing.encoder.onnx import OnnxEncoder
    from app.routing.estimators.classifier import read_heads

    encoder = OnnxEncoder(encoder_directory)
    if settings.estimator == "classifier":
        read_heads(encoder_directory)  # Encoding takes minutes; what is missing is said before.
    rows = read_outcomes(files)
    refuse_evaluation_only(rows)
    train_rows, _ = split(build_table(rows, models=models), settings.test_share)
    # Not merged: a question that two sources share is scored by each source's own outcomes.
    apart = build_table(rows, models=models, merge=False)
    cache = EmbeddingCache(cache_directory or default_cache(), encoder.fingerprint)
    with lab.bars(console) as progress:
        task = progress.add_task("Encoding prompts", total=len(train_rows))
        vectors = embed_all(encoder, train_rows.prompts, cache, lambda n: progress.advance(task, n))
        task = progress.add_task("Fitting", total=2 * len(train_rows))
        router = train(train_rows, vectors, settings, lambda n: progress.advance(task, n))
    manifest = write_router(
        router,
        out,
        encoder_entry(encoder_directory),
        describe(files, train_rows, models, settings),
    )
    return manifest, _measure(console, out, encoder, apart, settings, cache)


def _measure(
    console: Console,
    out: Path,
    encoder: Encoder,
    apart: OutcomeTable,
    settings: TrainSettings,
    cache: EmbeddingCache,
) -> Measurement | None:
    """What `pointsman eval` would find on the same files; None where too little was kept out."""
    from app.lab.measuring import MeasureSettings, measure
    from app.lab.train import one_thread
    from app.lab.trial import Unscorable
    from app.routing.artifact import load_artifact

    asked = MeasureSettings(robustness=0, seed=settings.seed)
    try:
        with one_thread(), lab.stages(console) as stage:
            return measure(load_artifact(out), encoder, apart, asked, cache=cache, stage=stage)
    except Unscorable:
        return None


def _print(out: Path, manifest: dict[str, Any], found: Measurement | None) -> None:
    from app.cli.sheets import WIDTH, Sheet, wide_console

    console = wide_console()
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    console.print(
        f"[bold]{out}[/bold]: {manifest['rows']} prompts, {len(manifest['models'])} models, "
        f"{size / 1e6:.1f} MB"
    )
    if found is None:
        console.print("No source has enough prompts kept out of training to score.")
        return
    sheet = Sheet.of(
        "On prompts kept out of training",
        *("source", "strong / weak", "prompts", "APGR", "interval", "task mean", "random"),
        *("CPT50", "CPT80", "saves at 95 %"),
    )
    for source in found.sources:
        sheet.add_row(*_cells(source))
    console.print(sheet.render(wide=console.width >= WIDTH))
    for name, reason in found.skipped.items():
        console.print(f"{name} is not scored: {reason}.", markup=False)


def _cells(source: Assessment) -> list[str]:
    from rich.markup import escape

    from app.cli.sheets import interval, percent, plain
    from app.lab.baselines import TASK_MEAN
    from app.lab.figures import RANDOM, ROUTER

    trial = source.trial
    strong, weak = source.singles[trial.strong], source.singles[trial.weak]
    router = source.method(ROUTER)
    saving = router.pair_money.get("saving_95")
    return [
        escape(trial.source),
        f"{escape(strong.name)} {strong.quality:.3f}\n{escape(weak.name)} {weak.quality:.3f}",
        str(len(trial)),
        plain(router.ranking["apgr"]),
        interval(router.ranking["apgr"]),
        *(plain(source.method(name).ranking["apgr"]) for name in (TASK_MEAN, RANDOM)),
        percent(router.ranking["cpt50"]),
        percent(router.ranking["cpt80"]),
        "-" if saving is None else percent(saving),
    ]
