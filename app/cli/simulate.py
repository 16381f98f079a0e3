"""`pointsman simulate`: the scripted upstream alone, to try a config without paying a provider."""

from __future__ import annotations

import os

import click

from app.cli.options import Refused


@click.command("simulate")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8090, show_default=True, help="0: a free one."
)
@click.option(
    "--strict-models", is_flag=True, help="Answer 404 to a model name that is not in /v1/models."
)
def command(host: str, port: int, strict_models: bool) -> None:
    """Serve made-up answers as an OpenAI-speaking upstream would.

    Point an upstream's base_url at http://HOST:PORT/v1. Answers are clearly marked as simulated;
    streaming, tools, structured outputs, logprobs and usage work as at a provider.

    \b
    Programme it, for every model or one, for the next N requests or (times null) until taken down:
      curl localhost:8090/script -d '{"model": "*", "times": 2, "behaviour": {"status": 429}}'
      curl -X DELETE localhost:8090/script
      curl localhost:8090/log        # what it received, and who hung up
      curl localhost:8090/ports      # where connecting itself goes wrong

    docs/reliability.md lists its faults: {"behaviour": {"fault": "gzip_bomb"}}.

    A request can also bring its behaviour along, in the body field "x_simulate".
    """
    from app.simulated.server import SimulatedAPI
    from app.simulated.serving import open_socket, server_for

    try:
        listening = open_socket(host, port)
    except OSError as error:
        raise Refused(f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from error
    click.echo(f"Simulated upstream on http://{host}:{listening.getsockname()[1]}/v1", err=True)
    server_for(SimulatedAPI(strict_models=strict_models)).run(sockets=[listening])
