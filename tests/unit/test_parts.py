"""Which parts a configuration needs."""

from __future__ import annotations

import pytest

from app import parts
from app.compiling import compile_config
from app.config.load import loads
from app.state.memory import MemoryState

TEXT = """\
upstreams: {u: {kind: openai, base_url: 'http://127.0.0.1:9/v1'}}
models:
  m: {prices: {input: 1, output: 1}, deployments: [{upstream: u, id: a}MORE]}
routes:
  auto: {candidates: [m], router: null, affinity: AFFINITY}
"""


@pytest.mark.parametrize(
    ("affinity", "more", "kept"),
    [("false", "", False), ("true", "", True), ("false", ", {upstream: u, id: b}", True)],
)
def test_conversations_are_kept_where_somebody_asks_for_them(
    affinity: str, more: str, *, kept: bool
) -> None:
    """Also without a route that keeps them: who names a model stays with its deployment."""
    compiled = compile_config(loads(TEXT.replace("AFFINITY", affinity).replace("MORE", more)))
    assert (parts._sessions(compiled, MemoryState(), None) is not None) is kept
