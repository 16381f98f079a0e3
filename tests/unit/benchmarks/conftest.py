"""`benchmarks` is run from the repository's root and not installed, so tests put the root first."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
