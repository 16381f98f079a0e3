"""The steps of any tuning run: texts to padded batches, one optimiser, one seed, few threads.

A plain loop: the library's trainer wants `accelerate` and `datasets`, which would do nothing here
that these lines do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.lab.tuning.settings import TuneSettings
from app.routing.encoder.onnx import window

GRADIENT_NORM = 1.0
_READ_AT_ONCE = 32

Batch = TypeVar("Batch")


@contextmanager
def repeatable(settings: TuneSettings) -> Iterator[None]:
    """Torch with the run's seed and threads, and as it was afterwards."""
    import torch

    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            yield
    finally:
        torch.use_deterministic_algorithms(strict)
        torch.set_num_threads(threads)


class Texts:
    """Token ids of all texts, cut as serving cuts them, ready to be padded into batches."""

    def __init__(self, model: Any, texts: Sequence[str], settings: TuneSettings) -> None:
        tokenizer = model.tokenizer.backend_tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        readable = [text.encode("utf-8", "replace").decode() for text in texts]
        self.ids = [
            window(encoded.ids, settings.max_tokens, settings.tail_tokens)
            for encoded in tokenizer.encode_batch(readable)
        ]
        self.lengths = np.array([len(ids) for ids in self.ids])
        self._padding = int(model.tokenizer.pad_token_id or 0)

    def features(self, rows: NDArray[np.intp]) -> dict[str, Any]:
        """What the model reads for these rows."""
        import torch

        longest = int(self.lengths[rows].max())
        ids = np.full((len(rows), longest), self._padding, dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        for at, row in enumerate(rows):
            ids[at, : self.lengths[row]] = self.ids[row]
            mask[at, : self.lengths[row]] = 1
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def embed(model: Any, features: dict[str, Any]) -> Any:
    """Unit vectors (rows, dimensions) of a batch, as a tensor."""
    import torch

    return torch.nn.functional.normalize(model(features)["sentence_embedding"], dim=-1)


def encode(model: Any, texts: Sequence[str], settings: TuneSettings) -> NDArray[np.float32]:
    """Vectors (rows, dimensions) of a model that is being tuned, without gradients."""
    import torch

    read = Texts(model, texts, settings)
    vectors = np.empty((len(texts), int(model.get_embedding_dimension())), dtype=np.float32)
    order = np.argsort(read.lengths, kind="stable")
    model.eval()
    with torch.no_grad():
        for start in range(0, len(order), _READ_AT_ONCE):
            rows = order[start : start + _READ_AT_ONCE]
            vectors[rows] = embed(model, read.features(rows)).numpy()
    return vectors


def run_steps(
    groups: Sequence[dict[str, Any]],
    batches: Iterable[Batch],
    loss_of: Callable[[Batch], Any],
    steps: int,
    settings: TuneSettings,
    advance: Callable[[int], None] | None,
) -> tuple[float, ...]:
    """AdamW with a warm-up and a linear way to zero; the loss of every step. `groups` are
    parameters with their learning rates; `advance` counts steps.
    """
    import torch

    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    warmup = max(1, round(settings.warmup_share * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min((step + 1) / warmup, (steps - step) / max(1, steps - warmup), 1.0),
    )
    parameters = [parameter for group in groups for parameter in group["params"]]
    losses = []
    for number, batch in enumerate(batches, start=1):
        loss = loss_of(batch)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise DataError(
                f"step {number}: the loss is {losses[-1]}; try a smaller learning rate than "
                f"{settings.learning_rate:g}"
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
        optimiser.step()
        schedule.step()
        if advance is not None:
            advance(1)
    return tuple(losses)


def batches_of_like_length(
    lengths: NDArray[np.intp], size: int, steps: int, seed: int
) -> Iterator[NDArray[np.intp]]:
    """Every row once an epoch, in random batches of texts of about one length: less padding."""
    rng = np.random.default_rng(seed)
    made = 0
    while made < steps:
        order = rng.permutation(len(lengths))
        # Sorted within pools of sixteen batches only, so that a batch stays a random one.
        pools = [order[at : at + 16 * size] for at in range(0, len(order), 16 * size)]
        ordered = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
        batches = [ordered[at : at + size] for at in range(0, len(ordered), size)]
        for at in rng.permutation(len(batches)):
            if made == steps:
                return
            made += 1
            yield batches[at]
