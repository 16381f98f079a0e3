"""Texts to vectors: the first and by far the dearest step of routing.

Only names without heavy imports are offered here; onnxruntime and torch load with the module that
needs them.
"""

from app.routing.encoder.base import Encoder
from app.routing.encoder.embedder import Embedder

__all__ = ["Embedder", "Encoder"]
