"""The recipe of what the ledger costs still runs; its figures are not looked at here."""

from pathlib import Path

from benchmarks.ledger import measure, table


def test_it_measures(tmp_path: Path) -> None:
    figures = measure(tmp_path, 50)
    assert figures["bytes a request"] > 500
    assert "booking: requests/s" in table(figures)
