"""Which prompts a router was trained on, without their text: 8-byte hashes of the prompt and of its
question, kept sorted in the router's directory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.errors import ArtifactError
from app.lab.outcomes import normalise, question

Fingerprints = NDArray[np.uint64]


def fingerprint_of(text: str) -> int:
    """64 bits of a text; two of a million texts share theirs with a chance of 3 in 100 million."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def prompt_fingerprints(prompts: Sequence[str]) -> Fingerprints:
    """Of each prompt, in order; case, spacing and Unicode form do not count."""
    return _all(normalise(prompt) for prompt in prompts)


def question_fingerprints(prompts: Sequence[str]) -> Fingerprints:
    """Of each prompt's question, in order; its multiple-choice options do not count."""
    return _all(question(prompt) for prompt in prompts)


def read_fingerprints(path: Path) -> Fingerprints:
    """Sorted fingerprints as a router's directory holds them. Raises ArtifactError if damaged."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"router {path.parent}: {path.name} cannot be read: {error}") from error
    if found.dtype != np.uint64 or found.ndim != 1:
        raise ArtifactError(
            f"router {path.parent}: {path.name} holds {found.dtype} {found.shape}, expected one "
            "row of uint64"
        )
    return np.asarray(found)


def _all(texts: Iterable[str]) -> Fingerprints:
    return np.fromiter((fingerprint_of(text) for text in texts), dtype=np.uint64)
