"""What the benchmark of the semantic cache counts."""

from __future__ import annotations

import numpy as np

from benchmarks.semantic_cache import REWORDINGS, _distinct, _false_hits


def test_a_hit_is_false_only_between_different_questions() -> None:
    angles = np.array([0.0, 0.1, 0.1, 1.5])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    told = _false_hits(vectors, np.array([7, 7, 8, 7], dtype=np.uint64))
    # The second and third are as alike as can be, but for their words; the first is near both.
    assert told["0.99"] == {"vector": 0.75, "guarded": 0.5}
    apart = _false_hits(vectors[[0, 3]], np.array([7, 7], dtype=np.uint64))
    assert apart["0.80"] == {"vector": 0.0, "guarded": 0.0}


def test_what_counts_as_one_question() -> None:
    assert len(_distinct(["What is it?", "what  is it", "What was it?"])) == 2


def test_rewordings_change_a_text() -> None:
    text = "What is the time?"
    assert all(reworded(text) != text for reworded in REWORDINGS.values())
