"""`pointsman encoder`: make the encoder that serving uses, and check it against its original."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

DEFAULT_SOURCE = "all-MiniLM-L6-v2"


@click.group()
def command() -> None:
    """Make and check text encoders (needs the `train` extra)."""


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
        raise click.ClickException(str(error)) from error
    click.echo(orjson.dumps(manifest, option=orjson.OPT_INDENT_2).decode())


@command.command()
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
@click.option("--json", "as_json", is_flag=True)
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
        raise click.ClickException(str(error)) from error
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
