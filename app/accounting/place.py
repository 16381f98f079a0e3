"""Where the ledger is kept, as the configuration says it, seen from the configuration's folder."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from app.config import schema
from app.errors import DatabaseError

SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class Place:
    """`url` is absolute; `owner` names the database in the journal, without its password."""

    url: str
    journal: Path
    owner: str

    @classmethod
    def compile(cls, written: schema.Ledger | None, folder: Path) -> Place | None:
        """None where no ledger is kept."""
        if written is None or written.url is None:
            return None
        url = database_url(written.url, folder)
        parts = urlsplit(url)
        address = f"{parts.scheme}:{parts.hostname}:{parts.port}:{parts.path}"
        owner = sha256(address.encode()).hexdigest()[:12]
        return cls(url, (folder / written.journal).absolute(), owner)

    def prepare(self) -> None:
        """Make the journal's directory. Raises DatabaseError where nothing can be written."""
        probe = self.journal / f".{self.owner}.probe"
        try:
            # Nobody else's business: the parent holds the database, if nothing else is said.
            self.journal.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.journal.mkdir(exist_ok=True, mode=0o700)
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise DatabaseError(
                f"the ledger's journal can't be written in {self.journal}: {error.strerror}. "
                "Set `ledger.journal` (and `ledger.url`) to a place that can, or `ledger: null`."
            ) from None


def database_url(written: str, folder: Path) -> str:
    """A relative path of SQLite is seen from `folder`."""
    if not written.startswith(SQLITE):
        return written
    return SQLITE + str((folder / written.removeprefix(SQLITE)).absolute())
