"""The page's files: our own, and plotly's chart library out of the package that is installed.

Each file's address holds a hash of what is in it, so that a browser may keep it for good. Packing
is done once, the chart library's when somebody opens the page.
"""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from app.errors import UnknownPath

PREFIX = "/dashboard/static"
STATIC = Path(__file__).parent / "static"
_CHARTS = "plotly.min.js"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent."""

    content_type: str
    plain: bytes
    packed: bytes


class Assets:
    """Every file of the page."""

    def __init__(self) -> None:
        self._files = {
            file.name: _asset(file) for file in sorted(STATIC.iterdir()) if file.suffix in _TYPES
        }
        digest = sha256(b"".join(asset.plain for asset in self._files.values()))
        digest.update(version("plotly").encode())
        self.version = digest.hexdigest()[:16]
        text = (STATIC / "index.html").read_text()
        self.page = text.replace("{static}", f"{PREFIX}/{self.version}").encode()
        self._charts: asyncio.Task[Asset] | None = None

    def warm(self) -> None:
        """Pack the chart library in the background: it will be asked for in a moment."""
        if self._charts is None:
            packing = asyncio.to_thread(_asset, charts())
            self._charts = asyncio.get_running_loop().create_task(packing)

    async def get(self, wanted: str, name: str) -> Asset:
        """A file by its version and name. Raises UnknownPath."""
        if wanted == self.version:
            if name in self._files:
                return self._files[name]
            if name == _CHARTS:
                self.warm()
                assert self._charts is not None
                # Who leaves must not take it from the others.
                return await asyncio.shield(self._charts)
        raise UnknownPath("No such file of the dashboard: load the page again.")


def charts() -> Path:
    """Where the package `plotly` keeps its chart library; the package itself is not loaded."""
    found = find_spec("plotly")
    assert found is not None, "the package `plotly` is not installed"
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "package_data" / _CHARTS


def _asset(file: Path) -> Asset:
    text = file.read_bytes()
    return Asset(_TYPES[file.suffix], text, gzip.compress(text, 6, mtime=0))
