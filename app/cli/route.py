"""`pointsman route`: where a prompt would go and why, without a server and without a model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import orjson

from app.cli.options import config_file

_READ = {
    "text": "the words alone",
    "cached": "a vector that was at hand",
    "encoded": "the words and the vector",
}


@click.command(name="route")
@click.argument("prompt")
@config_file("The YAML whose routes are asked.")
@click.option("--model", default="auto", show_default=True, help="Route or alias, as in a request.")
@click.option(
    "--neighbours",
    default=5,
    show_default=True,
    type=click.IntRange(0, 50),
    help="How many prompts with known outcomes to show.",
)
@click.option("--json", "as_json", is_flag=True, help="As POST /v1/decision answers.")
def command(prompt: str, file: Path, model: str, neighbours: int, as_json: bool) -> None:
    """Explain how PROMPT would be routed."""
    from app.accounting.caller import ANONYMOUS
    from app.assembly import offline_pipeline
    from app.compiling import compile_config
    from app.config.load import load
    from app.wire import openai_chat

    # What the terminal's encoding could not read arrives as lone surrogates.
    text = prompt.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": text}]})
    now = perf_counter()
    request = openai_chat.parse(body, request_id="cli", started=now, received=now, max_images=0)
    pipeline = offline_pipeline(compile_config(load(file)))
    account = asyncio.run(pipeline.explain(request, neighbours, ANONYMOUS))
    if as_json:
        click.echo(orjson.dumps(account, option=orjson.OPT_INDENT_2))
    else:
        _show(account)


def _show(account: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"[bold]{account['model']}[/bold]: {account['explanation']}")
    table = Table("candidate", "quality", "interval", "expected cost", "not eligible because")
    for option in account["candidates"]:
        known = "quality" in option
        table.add_row(
            option["model"],
            f"{option['quality']:.3f}" if known else "-",
            f"{option['quality_low']:.3f} to {option['quality_high']:.3f}" if known else "-",
            f"${option['expected_cost_usd']}" if known and option["expected_cost_usd"] else "-",
            ", ".join(option["reasons"]),
        )
    console.print(table)
    objective = account["objective"] or {}
    told = ", ".join(f"{key} {value}" for key, value in objective.items())
    console.print(f"objective: {told or 'none'}; novelty {account['novelty']}")
    if account["speed"]:
        read = _READ[account["speed"]]
        console.print(f"decided from {read} (encode: {account['encode']})")
    if account["neighbours"]:
        nearest = Table("nearest past prompt", "task", "similarity", "scores")
        for neighbour in account["neighbours"]:
            scores = ", ".join(f"{name} {score:g}" for name, score in neighbour["scores"].items())
            nearest.add_row(
                neighbour["id"], neighbour["task"], f"{neighbour['similarity']:.3f}", scores
            )
        console.print(nearest)
