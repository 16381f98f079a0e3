"""What a text encoder is to the rest of the gateway: texts in, unit vectors out.

The fingerprint ties an artifact to the encoder it was built with, because vectors of two encoders
can't be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Encoder(Protocol):
    """Turns texts into vectors. Blocking: serving calls it through an `Embedder`."""

    @property
    def fingerprint(self) -> str:
        """Names weights, tokenizer and settings; an artifact refuses any other."""
        ...

    @property
    def dimensions(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length, shape (len(texts), dimensions)."""
        ...
