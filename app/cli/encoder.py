"""`pointsman encoder`: make the encoder that serving uses, tune one on outcomes, and check one
against its original.
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

    from app.lab.tuning import TuneSettings

DEFAULT_SOURCE = "all-MiniLM-L6-v2"


@click.group()
def command() -> None:
    """Make, tune and check text encoders (needs the `train` extra)."""


@command.command()
@click.option(
    "--source",
    default=DEFAULT_SOURCE,
    show_default=True,
    help="A sentence-transformers name or directory.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory to write.")
@click.option(
    "--max-tokens", default=256, show_default=True, help="Longer texts lose their middle."
)
@click.option(
    "--tail-tokens", default=64, show_default=True, help="Tokens kept of a long text's end."
)
@click.option("--fp32", is_flag=True, help="Do not quantise.")
@click.option("--licence", default="Apache-2.0", show_default=True, help="Licence of the source.")
def export(
    source: str, out: Path, max_tokens: int, tail_tokens: int, fp32: bool, licence: str
) -> None:
    """Export an encoder to ONNX with pooling inside, quantised to int8."""
    from app.errors import PointsmanError
    from app.lab.encoder_export import ExportSettings, export_encoder

    settings = ExportSettings(
        max_tokens=max_tokens, tail_tokens=tail_tokens, int8=not fp32, licence=licence
    )
    try:
        manifest = export_encoder(source, out, settings)
    except PointsmanError as error:
        raise Refused(str(error)) from error
    click.echo(orjson.dumps(manifest, option=orjson.OPT_INDENT_2).decode())


@command.command(short_help="Compare an exported encoder with its original.")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--data",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Outcome files whose prompts are encoded.",
)
@click.option("--source", default=DEFAULT_SOURCE, show_default=True, help="The original.")
@click.option("--strong", default="gpt-4-1106-preview", show_default=True)
@click.option("--weak", default="Mixtral-8x7B-Instruct-v0.1", show_default=True)
@click.option("--sample", default=3000, show_default=True, help="Prompts to encode.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def check(
    directory: Path,
    data: tuple[Path, ...],
    source: str,
    strong: str,
    weak: str,
    sample: int,
    seed: int,
    as_json: bool,
) -> None:
    """Compare an exported encoder with its original: vectors, routing quality, speed."""
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from app.errors import PointsmanError
    from app.lab.encoder_check import compare
    from app.lab.outcomes import build_table, read_outcomes
    from app.routing.encoder.onnx import OnnxEncoder
    from app.routing.encoder.sentence_transformers import SentenceTransformersEncoder
    from app.routing.model_names import canonical_name

    try:
        table = build_table(read_outcomes(data))
        rows = np.random.default_rng(seed).permutation(len(table))[:sample]
        table = table.take(np.sort(rows))
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("Encoding twice", total=2 * len(table))
            agreement = compare(
                SentenceTransformersEncoder(source),
                OnnxEncoder(directory),
                table,
                canonical_name(strong),
                canonical_name(weak),
                lambda n: progress.advance(task, n),
            )
    except PointsmanError as error:
        raise Refused(str(error)) from error
    if as_json:
        click.echo(orjson.dumps(agreement.as_dict(), option=orjson.OPT_INDENT_2).decode())
        return
    click.echo(
        f"{agreement.prompts} prompts; {agreement.whole_prompts} read whole by both: "
        f"cosine {agreement.mean_cosine:.4f} on average, {agreement.lowest_cosine:.4f} at worst\n"
        f"APGR {strong} / {weak}: {agreement.apgr_original:.4f} with the original, "
        f"{agreement.apgr_exported:.4f} exported\n"
        f"milliseconds a prompt: {agreement.milliseconds_original:.1f} original, "
        f"{agreement.milliseconds_exported:.1f} exported"
    )


@command.command("tune", short_help="Fine-tune an encoder on outcomes, and export it.")
@lab.outcome_files
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to write.")
@click.option(
    "--objective",
    required=True,
    type=click.Choice(["task", "expert", "classifier"]),
    help="Prompts of one task together; prompts that need the same model; or quality heads.",
)
@click.option(
    "--source",
    default=DEFAULT_SOURCE,
    show_default=True,
    help="The sentence-transformers name or directory to start from.",
)
@click.option("--strong", help="The pair's strong model: `expert` needs a pair.")
@click.option("--weak", help="The pair's weak model.")
@click.option("--models", help="Only these models, separated by commas.")
@click.option("--steps", type=click.IntRange(1), help="Batches; instead of --epochs.")
@click.option(
    "--epochs",
    type=click.IntRange(1),
    help="Times each row is seen.  [default: 1; classifier: 2,000 steps]",
)
@click.option("--batch", type=click.IntRange(2), help="Rows a step.  [default: 32; classifier: 16]")
@click.option("--lr", default=2e-5, show_default=True, type=click.FloatRange(0.0, min_open=True))
@click.option("--max-rows", type=click.IntRange(1), help="Tune on a sample of the rows.")
@click.option(
    "--max-tokens",
    default=128,
    show_default=True,
    type=click.IntRange(8),
    help="Window while tuning; longer texts lose their middle.",
)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--test-share",
    default=0.15,
    show_default=True,
    type=click.FloatRange(0.0, 0.5),
    help="Share of questions kept out, as `train` keeps them.",
)
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1))
@click.option("--licence", default="Apache-2.0", show_default=True, help="Licence of the source.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def tune_command(
    first: tuple[Path, ...],
    more: tuple[Path, ...],
    out: Path,
    models: str | None,
    test_share: float,
    licence: str,
    as_json: bool,
    lr: float,
    **options: Any,
) -> None:
    """Fine-tune an encoder on outcomes, and export it: `train --encoder` takes the directory."""
    from app.errors import PointsmanError
    from app.lab.tuning import TuneSettings

    if options["steps"] is not None and options["epochs"] is not None:
        raise click.UsageError("give --steps or --epochs, not both")
    settings = TuneSettings(learning_rate=lr, **options)
    wanted = lab.names(models)
    try:
        report = _tune((*first, *more), out, wanted, settings, test_share, licence)
    except PointsmanError as error:
        raise Refused(str(error)) from error
    if as_json:
        click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
        return
    tuning, after = report["manifest"]["tuning"], report["held_out"]
    click.echo(
        f"{out}: {tuning['rows']} prompts, {tuning['steps']} steps, loss "
        f"{tuning['loss_first_tenth']:.4f} at first, {tuning['loss_last_tenth']:.4f} at last"
    )
    if after is not None:
        click.echo(
            f"{after['figure']} on {after['rows']} prompts kept out: {after['before']:.4f} before, "
            f"{after['after']:.4f} after"
        )


def _tune(
    files: Sequence[Path],
    out: Path,
    models: Sequence[str] | None,
    settings: TuneSettings,
    test_share: float,
    licence: str,
) -> dict[str, Any]:
    from rich.console import Console
    from rich.progress import Progress

    from app.lab.encoder_export import ExportSettings
    from app.lab.outcomes import build_table, read_outcomes, split
    from app.lab.sources import refuse_evaluation_only
    from app.lab.tuning import export as export_tuned
    from app.lab.tuning import tune
    from app.lab.tuning.held_out import held_out
    from app.lab.tuning.run import provenance, steps_of

    rows = read_outcomes(files)
    refuse_evaluation_only(rows)
    train, test = split(build_table(rows, models=models), test_share)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("Tuning", total=steps_of(train, settings))
        tuned = tune(train, settings, lambda n: progress.advance(task, n))
        task = progress.add_task("Exporting and scoring", total=2)
        manifest = export_tuned(
            tuned,
            out,
            settings,
            ExportSettings(licence=licence),
            provenance(files, models, test_share),
        )
        progress.advance(task)
        figure = held_out(tuned, train, test, settings)
        progress.advance(task)
    return {
        "out": str(out),
        "manifest": manifest,
        "held_out": None if figure is None else figure.as_dict(),
    }
