"""A YAML file with the line of every key, and `${ENV}` filled in.

`${NAME}` takes an environment variable and is an error when it is unset; `${NAME:-default}` has a
default. Only whole scalar values are interpolated, after parsing, so no value can change the
structure of the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from app.errors import ConfigError, Problem

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")

KeyPath = tuple[str | int, ...]


@dataclass(slots=True)
class Document:
    """Plain values, and where each of them stands."""

    file: str
    values: dict[str, Any]
    lines: dict[KeyPath, int]
    unset: list[Problem] = field(default_factory=list)
    """Variables that are missing; what names them stands in `values` as it was written."""
    source: bytes = field(default=b"", repr=False)
    """The file, byte by byte."""

    @property
    def digest(self) -> str:
        """What `sha256sum` says of the file."""
        return sha256(self.source).hexdigest()

    def line(self, path: KeyPath) -> int | None:
        """Line of a key, or of the nearest key above it."""
        while path not in self.lines:
            if not path:
                return None
            path = path[:-1]
        return self.lines[path]

    def problem(self, path: KeyPath, message: str, hint: str | None = None) -> Problem:
        return Problem(self.file, self.line(path), dotted(path), message, hint)


def dotted(path: KeyPath) -> str:
    """`('models', 'a', 'candidates', 0)` as `models.a.candidates[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


def read(file: Path, environment: Mapping[str, str]) -> Document:
    """Parse a file. Raises ConfigError where it is no YAML."""
    try:
        source = file.read_bytes()
    except OSError as error:
        raise ConfigError([Problem(str(file), None, "", f"can't be read: {error}")]) from error
    return parse(source, str(file), environment)


def parse(source: str | bytes, file: str, environment: Mapping[str, str]) -> Document:
    """Parse YAML text; `file` is only named in errors."""
    try:
        text = source if isinstance(source, str) else source.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(file, None, "", f"can't be read: {error}")]) from error
    try:
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        raise ConfigError([Problem(file, line, "", f"not YAML: {error.problem}")]) from error
    except (YAMLError, RecursionError, ValueError) as error:
        raise ConfigError([Problem(file, None, "", f"not YAML: {error}")]) from error
    if not isinstance(tree, CommentedMap):
        raise ConfigError(
            [Problem(file, 1, "", "must be a mapping with `upstreams`, `models` and `routes`")]
        )
    document = Document(file, {}, {(): 1}, source=text.encode())
    document.values = _plain(tree, (), document, environment)
    return document


def _plain(
    node: Any,
    path: KeyPath,
    document: Document,
    environment: Mapping[str, str],
) -> Any:
    """Turn the round-trip tree into plain values, noting lines and filling in variables."""

    def child(key: str | int, value: Any, line: int) -> Any:
        document.lines[(*path, key)] = line
        return _plain(value, (*path, key), document, environment)

    if isinstance(node, CommentedMap):
        return {
            str(key): child(str(key), value, _key_line(node, key)) for key, value in node.items()
        }
    if isinstance(node, CommentedSeq):
        return [child(i, value, node.lc.item(i)[0] + 1) for i, value in enumerate(node)]
    if isinstance(node, str):
        return _filled(str(node), path, document, environment)
    return node


def _key_line(node: CommentedMap, key: Any) -> int:
    # A key that came in by a YAML merge (`<<`) has no position of its own.
    position = node.lc.data.get(key) if node.lc.data else None
    return int(position[0] if position else node.lc.line) + 1


def _filled(
    text: str,
    path: KeyPath,
    document: Document,
    environment: Mapping[str, str],
) -> str:
    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        if name in environment:
            return environment[name]
        if default is None:
            document.unset.append(
                document.problem(
                    path,
                    f"environment variable {name} is not set",
                    f"export it, or write ${{{name}:-default}}",
                )
            )
            return match[0]
        return default

    return _VARIABLE.sub(value, text)
