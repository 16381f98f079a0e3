"""`python -m app.cli` is `pointsman`."""

from app.cli import main

main(prog_name="pointsman")
