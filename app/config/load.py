"""From a YAML file to a checked `Config`, reporting every mistake at once.

A message names file, line, key path, what is wrong and the nearest valid name. Values are never
shown in messages: they may be secrets.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.config import document as documents
from app.config import price_lists, references
from app.config.document import Document, KeyPath
from app.config.names import nearest
from app.config.schema import Config
from app.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration, with the document it was written in for later messages."""

    config: Config
    document: Document


def load(file: Path, environment: Mapping[str, str] | None = None) -> Loaded:
    """Read and check a file. Raises ConfigError with all problems."""
    return _checked(documents.read(file, os.environ if environment is None else environment))


def load_copy(source: bytes, file: str) -> Loaded:
    """The same from the bytes that a file had once."""
    return _checked(documents.parse(source, file, os.environ))


def loads(text: str, environment: Mapping[str, str] | None = None) -> Loaded:
    """The same from text."""
    return _checked(documents.parse(text, "<config>", environment or {}))


def _checked(document: Document) -> Loaded:
    problems = [*references.check(document), *price_lists.check(document)]
    config = None
    try:
        config = Config.model_validate(document.values)
    except ValidationError as error:
        problems += [_problem(document, details) for details in error.errors(include_url=False)]
    # What else is said of a value that is not known yet would only be of the variable's name.
    unknown = {problem.path for problem in document.unset}
    problems = [*document.unset, *(one for one in problems if one.path not in unknown)]
    if problems or config is None:
        raise ConfigError(in_order(problems))
    return Loaded(config, document)


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """As a person reads the file: by line."""
    return sorted(problems, key=lambda problem: (problem.line or 0, problem.path))


def _problem(document: Document, details: ErrorDetails) -> Problem:
    path = _written_path(details["loc"], document.values)
    match details["type"]:
        case "extra_forbidden":
            valid = _valid_keys(path[:-1])
            return document.problem(path, "unknown key", nearest(str(path[-1]), valid))
        case "missing":
            return document.problem(path, "is required")
        case "union_tag_invalid":
            return document.problem(
                (*path, "kind"), f"must be one of {details['ctx']['expected_tags']}"
            )
        case "union_tag_not_found":
            return document.problem(path, "`kind` is required")
        case "literal_error":
            return document.problem(path, f"must be one of {details['ctx']['expected']}")
        case "value_error":
            return document.problem(path, str(details["ctx"]["error"]))
        case "string_pattern_mismatch":
            return document.problem(
                path, "must be a name: letters, digits and . _ - : / @ +, a letter or digit first"
            )
    message = details["msg"].removeprefix("Value error, ")
    return document.problem(path, message[0].lower() + message[1:])


def _written_path(location: tuple[int | str, ...], values: Any) -> KeyPath:
    """Drop the steps that pydantic adds for union tags and mapping keys.

    A step stays when the file has it; the last one stays anyway (it may be a missing key).
    """
    path: list[int | str] = []
    for depth, step in enumerate(location):
        if step == "[key]":
            break
        inside, found = _step(values, step)
        if found:
            values = inside
        elif depth < len(location) - 1:
            continue
        path.append(step)
    return tuple(path)


def _step(values: Any, step: int | str) -> tuple[Any, bool]:
    if isinstance(values, dict) and step in values:
        return values[step], True
    if isinstance(values, list) and isinstance(step, int) and step < len(values):
        return values[step], True
    return None, False


def first_mistake(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """Of terms that came otherwise than in the file: the dotted key, and what is wrong with it."""
    details = error.errors(include_url=False, include_input=False)[0]
    path = details["loc"]
    key = ".".join(map(str, path))[:200]
    if details["type"] != "extra_forbidden":
        return key, details["msg"].removeprefix("Value error, ")
    hint = nearest(str(path[-1]), _valid_keys(path[:-1], model))
    return key, "unknown key" + (f" ({hint})" if hint else "")


def _valid_keys(path: KeyPath, root: type[BaseModel] = Config) -> list[str]:
    """Names of the keys that the schema knows at a place of the file."""
    models: list[type[BaseModel]] = [root]
    for step in path:
        found: list[type[BaseModel]] = []
        for model in models:
            if isinstance(step, str) and step in model.model_fields:
                found += _models_in(model.model_fields[step].annotation)
        models = found or models
    return sorted(
        {field.alias or name for model in models for name, field in model.model_fields.items()}
    )


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    inner = [*getattr(annotation, "__args__", ()), getattr(annotation, "__origin__", None)]
    return [model for part in inner if part is not None for model in _models_in(part)]
