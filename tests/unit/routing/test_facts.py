"""Facts: what is needed, how large it is, and whose words say how hard it is."""

from typing import Any

import pytest

from app.routing.facts import INSTRUCTION_CHARACTERS, head_and_tail, inspect


def facts_of(*messages: dict[str, Any], **options: Any) -> Any:
    return inspect({"model": "auto", "messages": list(messages), **options})


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_the_instruction_is_the_last_user_turn() -> None:
    facts = facts_of(
        {"role": "system", "content": "You are a pirate."},
        user("What is the capital of France, and why?"),
        {"role": "assistant", "content": "Paris."},
        user("And what is the capital of Germany?"),
        {"role": "assistant", "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "Berlin " * 100},
    )
    assert facts.instruction == "And what is the capital of Germany?"
    assert facts.turns == 2
    assert facts.tool_results == 1


def test_a_short_turn_takes_the_one_before_it_along() -> None:
    facts = facts_of(user("Prove Fermat's little theorem."), user("yes, go on"))
    assert facts.instruction == "Prove Fermat's little theorem.\nyes, go on"


def test_the_harness_is_not_the_user() -> None:
    text = (
        "<system-reminder>You have 3 todos.</system-reminder>\nFix the failing test.\n"
        "<environment_details>cwd: /x <b></environment_details>"
    )
    assert facts_of(user(text)).instruction == "Fix the failing test."
    only = facts_of(user("Write a haiku about snow."), user("<user_info>linux</user_info>"))
    assert only.instruction == "Write a haiku about snow."


def test_ordinary_markup_stays() -> None:
    text = "Explain <b>this</b> and <system-reminder> alone."
    assert facts_of(user(text)).instruction == text


def test_many_open_tags_are_no_attack() -> None:
    facts_of(user("<system-reminder>" * 200_000 + "</user_info>"))


def test_parts_are_joined_and_needs_are_seen() -> None:
    facts = facts_of(
        user(
            [
                {"type": "text", "text": "What is in"},
                {"type": "image_url", "image_url": {"url": "data:..."}},
                {"type": "text", "text": "this picture?"},
                {"type": "input_audio", "input_audio": {}},
                {"type": "file", "file": {}},
                {"type": "unheard-of"},
            ]
        ),
        tools=[{"type": "function", "function": {"name": "f"}}],
        response_format={"type": "json_schema", "json_schema": {}},
        logprobs=True,
        max_tokens=7,
        n=3,
    )
    assert facts.instruction == "What is in\nthis picture?"
    assert facts.needs == {"vision", "audio", "files", "tools", "json_schema", "logprobs"}
    assert facts.max_output == 7
    assert facts.choices == 3


@pytest.mark.parametrize("options", [{"tools": []}, {"logprobs": False}, {"response_format": None}])
def test_what_is_empty_is_not_needed(options: dict[str, Any]) -> None:
    assert facts_of(user("hi there"), **options).needs == frozenset()


def test_size_counts_everything_sent() -> None:
    short = facts_of(user("word " * 400))
    assert 450 <= short.input_tokens <= 550
    tools = [{"type": "function", "function": {"name": "f", "description": "x" * 4_000}}]
    assert facts_of(user("word " * 400), tools=tools).input_tokens > short.input_tokens + 900
    chinese = facts_of(user("今天天气怎么样" * 100))
    assert chinese.input_tokens > 300


def test_a_long_text_keeps_head_and_tail() -> None:
    text = "START " + "x" * 50_000 + " END"
    cut = head_and_tail(text)
    assert len(cut) < INSTRUCTION_CHARACTERS + 10
    assert cut.startswith("START")
    assert cut.endswith("END")
    assert facts_of(user(text)).instruction == cut


def test_nothing_said_is_an_empty_instruction() -> None:
    assert facts_of({"role": "system", "content": None}).instruction == ""
