"""What several commands have in common: which configuration they take, and how they say that
something could not be done.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

DEFAULT_CONFIG = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
CONFIG_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
CONFIG_VARIABLE = "POINTSMAN_CONFIG"


class Refused(click.ClickException):
    """It could not be done."""

    exit_code = 2


def config_file(about: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--config FILE`, which arrives as `file`; without one the demo's."""
    return click.option(
        "--config",
        "file",
        type=CONFIG_FILE,
        default=DEFAULT_CONFIG,
        envvar=CONFIG_VARIABLE,
        show_envvar=True,
        show_default="configs/demo.yaml",
        help=about,
    )
