"""Which tools an answer calls, and with what arguments."""

from __future__ import annotations

from typing import Any

import orjson

from app.simulated.answer import Call
from app.simulated.behaviour import Behaviour
from app.simulated.instance import instance_of
from app.simulated.words import tokens_of

Tool = dict[str, Any]


def calls_for(
    payload: dict[str, Any], behaviour: Behaviour, question: str, seed: str
) -> list[Call]:
    """The scripted calls, else those that the request leads to; none if it leads to text."""
    scripted = behaviour.tool_calls
    if isinstance(scripted, list):
        return [_scripted(call, f"{seed}{place}") for place, call in enumerate(scripted)]
    tools = [tool for tool in payload.get("tools") or () if _name(tool)]
    if scripted is None:
        chosen = _chosen(payload, tools, question)
    else:
        chosen = [tools[place % len(tools)] for place in range(scripted)] if tools else []
    return [_called(tool, f"{seed}{place}") for place, tool in enumerate(chosen)]


def _chosen(payload: dict[str, Any], tools: list[Tool], question: str) -> list[Tool]:
    """One tool, or all that the prompt names; none after a tool's result, or when told not to."""
    choice = payload.get("tool_choice")
    last = payload["messages"][-1].get("role")
    if not tools or choice == "none" or last == "tool":
        return []
    if isinstance(choice, dict):
        wanted = _name(choice)
        return [tool for tool in tools if _name(tool) == wanted][:1] or tools[:1]
    named = [tool for tool in tools if _name(tool) in question] or tools[:1]
    return named[:1] if payload.get("parallel_tool_calls") is False else named


def _name(tool: Any) -> str:
    """The tool's name, empty for what is not a tool that can be called."""
    if not isinstance(tool, dict):
        return ""
    inner = tool.get("custom") if tool.get("type") == "custom" else tool.get("function")
    name = inner.get("name") if isinstance(inner, dict) else None
    return name if isinstance(name, str) else ""


def _called(tool: Tool, seed: str) -> Call:
    if tool.get("type") == "custom":
        return Call(f"call_{seed}", _name(tool), tokens_of("simulated input"), custom=True)
    arguments = instance_of(tool["function"].get("parameters") or {"type": "object"})
    return Call(f"call_{seed}", _name(tool), tokens_of(orjson.dumps(arguments).decode()))


def _scripted(call: dict[str, Any], seed: str) -> Call:
    arguments = call.get("arguments", {})
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    return Call(call.get("id", f"call_{seed}"), call["name"], tokens_of(text))
