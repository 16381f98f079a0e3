"""`pointsman calibrate`: a promise about the quality kept, from outcomes that the router has not
seen, put into its directory.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from app.cli import lab

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from app.lab.guarantee import Terms
    from app.routing.artifact import Artifact
    from app.routing.encoder.base import Encoder
    from app.routing.promise import Promise


@click.command()
@click.option("--router", required=True, help="A router: a directory, or a name in router_models/.")
@lab.outcome_files
@click.option("--strong", required=True, help="The model whose mean quality is to be kept.")
@click.option("--weak", required=True, help="Cheaper models, cheapest first, by commas.")
@click.option(
    "--keep",
    default=0.95,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the strong model's mean quality to keep.",
)
@click.option(
    "--delta",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 0.5, min_open=True),
    help="How likely the calibration may have misled.",
)
@click.option(
    "--bound",
    default="betting",
    show_default=True,
    type=click.Choice(["betting", "bernstein", "normal"]),
    help="betting and bernstein hold for any number of prompts, normal for many.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write a copy of the router here.")
@click.option(
    "--splits",
    default=200,
    show_default=True,
    type=click.IntRange(0, 100_000),
    help="Calibrations to simulate on fresh draws, to see how often the promise breaks.",
)
@click.option("--seed", default=0, show_default=True, help="Of the simulation only.")
@lab.encoding
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    router: str,
    first: tuple[Path, ...],
    more: tuple[Path, ...],
    strong: str,
    weak: str,
    keep: float,
    delta: float,
    bound: Any,
    out: Path | None,
    splits: int,
    seed: int,
    encoder_directory: Path,
    cache: Path | None,
    as_json: bool,
) -> None:
    """Promise that a share of a strong model's mean quality is kept, and store the promise."""
    from rich.console import Console

    from app.lab.calibrate import write_promise
    from app.lab.guarantee import Terms

    artifact, encoder = lab.open_router(router, encoder_directory)
    made = _promise(
        Console(stderr=True),
        (artifact, encoder),
        (*first, *more),
        (strong, lab.names(weak) or []),
        Terms(keep, delta, bound),
        (splits, seed),
        cache,
    )
    file = write_promise(artifact.directory, made, out)
    if as_json:
        report = {"file": str(file), "guarantee": made.model_dump()}
        click.echo(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode())
    else:
        _print(Console(), file, made)


def _promise(
    console: Console,
    router: tuple[Artifact, Encoder],
    files: Sequence[Path],
    models: tuple[str, Sequence[str]],
    terms: Terms,
    simulation: tuple[int, int],
    cache: Path | None,
) -> Promise:
    from app.lab import calibrate
    from app.lab.embedding import EmbeddingCache, default_cache, embed_all
    from app.lab.outcomes import build_table, read_outcomes
    from app.lab.sources import refuse_evaluation_only

    artifact, encoder = router
    pool = calibrate.pool(artifact, *models)
    outcomes = read_outcomes(files)
    refuse_evaluation_only(outcomes)
    table = calibrate.usable_rows(artifact, build_table(outcomes), pool)
    vectors_kept = EmbeddingCache(cache or default_cache(), encoder.fingerprint)
    splits, seed = simulation
    with lab.bars(console) as progress:
        task = progress.add_task("Encoding prompts", total=len(table))
        vectors = embed_all(
            encoder, table.prompts, vectors_kept, lambda n: progress.advance(task, n)
        )
        task = progress.add_task("Predicting", total=len(table))
        rows = calibrate.predictions(
            artifact, table, vectors, pool, lambda n: progress.advance(task, n)
        )
        task = progress.add_task("Simulating", total=splits)
        return calibrate.promise(
            rows,
            pool,
            terms,
            sources=table.sources,
            files=files,
            splits=splits,
            seed=seed,
            advance=partial(progress.advance, task),
        )


def _print(console: Console, file: Path, made: Promise) -> None:
    from rich.table import Table

    console.print(
        f"Mean quality is at least [bold]{made.keep:.1%}[/bold] of {made.strong}'s, with "
        f"confidence {1 - made.delta:.0%}, for traffic like these prompts. It is not about any "
        "single request, nor about other traffic."
    )
    table = Table()
    table.add_column("")
    table.add_column("", justify="right")
    for name, value in _figures(made):
        table.add_row(name, value)
    console.print(table)
    console.print(f"Written to {file}")


def _figures(made: Promise) -> list[tuple[str, str]]:
    figures = [
        ("cheaper models, in this order", ", ".join(made.weak)),
        ("calibration prompts", f"{made.n:,}"),
        ("bound", made.bound),
        ("threshold on predicted loss", f"{made.threshold:.3f}"),
        ("requests to cheaper models", f"{made.weak_share:.1%}"),
        ("quality kept on these prompts", f"{made.kept:.1%}"),
        ("upper bound of mean loss beyond what is allowed", f"{made.bound_value:.4f}"),
    ]
    if made.simulated is not None:
        figures += [
            ("simulated calibrations", f"{made.simulated.splits:,}"),
            ("of these broke the promise", f"{made.simulated.violations:.1%}"),
            ("requests to cheaper models there", f"{made.simulated.weak_share:.1%}"),
        ]
    return figures
