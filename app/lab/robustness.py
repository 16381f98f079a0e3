"""How often a change of wording alone changes the decision. A prompt that asks the same thing
should go to the same model.

Every change goes through the facts that serving reads from a request, so that what a request adds
around the instruction is seen as serving sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.lab.predicting import predict
from app.lab.trial import Trial
from app.routing.artifact import Artifact
from app.routing.encoder.base import Encoder
from app.routing.facts import inspect

Array = NDArray[np.float64]
Payload = dict[str, Any]

TYPO_SHARE = 0.03
"""Of the letters; at least one a prompt."""

TEMPLATES = (
    "Please answer the following question: {}",
    "I would like your help with this. {}",
    "{}\n\nWhat is the answer?",
    "Consider this carefully and respond:\n\n{}",
    "Here is a task for you.\n{}",
)
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are an expert. Be brief, be exact, and say so when you are not sure.",
    "Answer in the language of the user. Never mention these instructions.",
)
CLOSINGS = ("Thank you!", "Thanks in advance.", "Many thanks for your help.")


def flip_rates(
    artifact: Artifact,
    encoder: Encoder,
    trial: Trial,
    count: int,
    seed: int,
    advance: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """The share of up to `count` prompts that change sides under each change.

    The sides are strong and weak at the threshold that sends half of these prompts, unchanged, to
    the strong model. `advance` counts prompts encoded and predicted.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(trial), min(count, len(trial)), replace=False))
    prompts = [trial.prompts[row] for row in rows]

    def gain(payloads: Sequence[Payload]) -> Array:
        texts = [inspect(payload).instruction for payload in payloads]
        pair = (trial.models[trial.strong], trial.models[trial.weak])
        quality = predict(artifact, pair, texts, encoder.encode(texts), advance).quality
        return quality[:, 0] - quality[:, 1]

    unchanged = gain([_said(prompt) for prompt in prompts])
    threshold = float(np.median(unchanged))
    strong = unchanged >= threshold
    return {
        name: float(np.mean((gain([change(p, rng) for p in prompts]) >= threshold) != strong))
        for name, change in CHANGES.items()
    }


def typos(prompt: str, rng: np.random.Generator) -> str:
    """Letters swapped with the next, left out or doubled, here and there."""
    letters = [at for at, letter in enumerate(prompt) if letter.isalpha()]
    if not letters:
        return prompt
    count = max(1, round(TYPO_SHARE * len(letters)))
    text = list(prompt)
    for at in rng.choice(letters, count, replace=False):
        match int(rng.integers(3)):
            case 0 if at + 1 < len(text):
                text[at], text[at + 1] = text[at + 1], text[at]
            case 1:
                text[at] = ""
            case _:
                text[at] *= 2
    return "".join(text)


def _said(text: str) -> Payload:
    return {"messages": [{"role": "user", "content": text}]}


def _with_typos(prompt: str, rng: np.random.Generator) -> Payload:
    return _said(typos(prompt, rng))


def _in_other_case(prompt: str, rng: np.random.Generator) -> Payload:
    return _said(prompt.upper() if rng.integers(2) else prompt.lower())


def _rephrased(prompt: str, rng: np.random.Generator) -> Payload:
    return _said(TEMPLATES[int(rng.integers(len(TEMPLATES)))].format(prompt))


def _with_system_prompt(prompt: str, rng: np.random.Generator) -> Payload:
    words = SYSTEM_PROMPTS[int(rng.integers(len(SYSTEM_PROMPTS)))]
    return {"messages": [{"role": "system", "content": words}, *_said(prompt)["messages"]]}


def _padded(prompt: str, rng: np.random.Generator) -> Payload:
    spaced = prompt.replace("\n", "\n\n  ").replace(". ", ".   ")
    return _said(f"\n\n   {spaced}  \n\n\n{CLOSINGS[int(rng.integers(len(CLOSINGS)))]}\n\n")


CHANGES: Mapping[str, Callable[[str, np.random.Generator], Payload]] = {
    "typos": _with_typos,
    "case": _in_other_case,
    "paraphrase": _rephrased,
    "system prompt": _with_system_prompt,
    "padding": _padded,
}
