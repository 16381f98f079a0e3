"""`pointsman encoder`: make the encoder file that serving uses, and check it against its original."""

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
@click.option("--max-tokens", default=256, show_default=True, help="Longer texts lose their middle.")
@click.option("--tail-tokens", default=64, show_default=True, help="Tokens kept of a long text's end.")
@click.option("--fp32", is_flag=True, help="Do not quantise.")
@click.option("--licence", default="Apache-2.0", show_default=True, help="Licence of the source.")
def export(
    source: str, out: Path, max_tokens: int, tail_tokens: int, fp32: bool, licence: str
) -> None:
    """Export an encoder to ONNX with pooling inside, quantised to int8."""
    from app.lab.encoder_export import ExportSettings, export_encoder

    settings = ExportSettings(
        max_tokens=max_tokens, tail_tokens=tail_tokens, int8=not fp32, licence=licence
    )
    manifest = export_encoder(source, out, settings)
    click.echo(orjson.dumps(manifest, option=orjson.OPT_INDENT_2).decode())
