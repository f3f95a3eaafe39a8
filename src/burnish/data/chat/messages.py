"""Rows become conversations: lists of messages, prompt and response, instruction with input and output, ShareGPT turns."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from burnish.core.errors import nearest

Message = dict[str, Any]

ROLES = {
    **{role: role for role in ("system", "developer", "user", "assistant", "tool")},
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "observation": "tool",
}
"""The roles that data sets write, ShareGPT's and Gemma's names among them, and those that chat templates know."""

PAIRS = (
    ("prompt", ("response", "completion", "answer")),
    ("instruction", ("output", "response")),
    ("question", ("answer",)),
)
CONTEXTS = ("input", "context")


@dataclass(frozen=True)
class Columns:
    """Where a row keeps its conversation: in `messages`, or in `prompt` (and `context`, put below it) and `response`.

    These and `tools` are names of columns; `system` is a text, put first where the row has no system message of its own.
    """

    messages: str | None = None
    prompt: str | None = None
    context: str | None = None
    response: str | None = None
    system: str | None = None
    tools: str | None = None


@dataclass(frozen=True)
class Conversation:
    """Messages as chat templates take them, and the tools they may call.

    The first `given` messages are a prompt: assistant turns among them are read, never learned.
    """

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    given: int = 0


def usual(names: Collection[str]) -> Columns | None:
    """The columns of a data set whose names are among the usual ones, or None."""
    tools = "tools" if "tools" in names else None
    for messages in ("messages", "conversations"):
        if messages in names:
            return Columns(messages=messages, tools=tools)
    for prompt, responses in PAIRS:
        response = next((name for name in responses if name in names), None)
        if prompt in names and response is not None:
            context = next((name for name in CONTEXTS if name in names), None) if prompt == "instruction" else None
            return Columns(prompt=prompt, context=context, response=response, tools=tools)
    return None


def conversation(values: Mapping[str, Any], columns: Columns, labelled: bool = True) -> Conversation:
    """The conversation that a row holds.

    What follows the last assistant turn has no answer to learn from and is left out. Without `labelled` the response is neither
    needed nor read, as for rows that are to be answered. Lists may be written as JSON text, as csv files hold them.
    Raises ValueError, in a sentence without the row's place, for rows that are no conversation or have nothing to learn.
    """
    given = 0
    if columns.messages is not None:
        messages = listed(values.get(columns.messages), columns.messages)
    else:
        messages = asked(values, columns)
        given = len(messages) if any(message["role"] == "assistant" for message in messages) else 0
        messages += answered(values, columns) if labelled else []
    if columns.system and not any(message["role"] in ("system", "developer") for message in messages):
        messages = [{"role": "system", "content": columns.system}, *messages]
        given += bool(given)
    if labelled:
        last = max((at for at, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
        if last < given:
            raise ValueError("it has no assistant turn, so that there is nothing to learn; expected at least one answer")
        messages = messages[: last + 1]
    return Conversation(messages, tools_of(values, columns), given)


def asked(values: Mapping[str, Any], columns: Columns) -> list[Message]:
    """The messages of a prompt: those it lists, or one of the user, with the context below the question."""
    name = str(columns.prompt)
    value = messages_or_text(values.get(name))
    context = values.get(columns.context) if columns.context else None
    if context is not None and not isinstance(context, str):
        raise ValueError(f"`{columns.context}` is {kind(context)}, expected text")
    if isinstance(value, list):
        if context:
            raise ValueError(f"`{name}` is a list of messages, to which the text of `{columns.context}` cannot be added")
        return listed(value, name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"`{name}` is {kind(value)}, expected text or a list of messages")
    if not value or not value.strip():
        raise ValueError(f"`{name}` is {'missing' if value is None else 'empty'}: there is nothing to answer")
    return [{"role": "user", "content": f"{value}\n\n{context}" if context and context.strip() else value}]


def answered(values: Mapping[str, Any], columns: Columns) -> list[Message]:
    """The messages of a response: those it lists, or one of the assistant, which may be empty."""
    name = str(columns.response)
    value = messages_or_text(values.get(name))
    if value is None:
        raise ValueError(f"`{name}` is missing: there is nothing to learn")
    if isinstance(value, list):
        return listed(value, name)
    if not isinstance(value, str):
        raise ValueError(f"`{name}` is {kind(value)}, expected text or a list of messages")
    return [{"role": "assistant", "content": value}]


def messages_or_text(value: Any) -> Any:
    """JSON text is taken for a list only where it holds messages: an answer may well be `[1, 2, 3]`."""
    found = parsed(value)
    told = isinstance(found, list) and found and all(isinstance(each, dict) and ("role" in each or "from" in each) for each in found)
    return found if told else value


def listed(value: Any, name: str) -> list[Message]:
    """The messages of a list, checked, with the role and content that chat templates expect."""
    found = parsed(value)
    if found is None:
        raise ValueError(f"`{name}` is missing: expected a list of messages")
    if isinstance(found, str):
        raise ValueError(f"`{name}` is text that is no JSON list; expected a list of messages, each with role and content")
    if not isinstance(found, (list, tuple)):
        raise ValueError(f"`{name}` is {kind(found)}, expected a list of messages")
    if not found:
        raise ValueError(f"`{name}` is an empty list, expected messages")
    return [message(each, f"message {number} of `{name}`") for number, each in enumerate(found, start=1)]


def message(value: Any, place: str) -> Message:
    """One message: {role, content} or ShareGPT's {from, value}; other keys are kept where they hold something."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{place} is {kind(value)}, expected a mapping with role and content")
    said = value.get("role", value.get("from"))
    role = ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        known = nearest(said, ROLES) if isinstance(said, str) else ""
        raise ValueError(f"{place} has the role {said!r}{known}; expected one of {', '.join(ROLES)}")
    more = {key: each for key, each in value.items() if key not in ("role", "from", "content", "value") and each is not None}
    calls = tool_calls(more.pop("tool_calls", None), place)
    content = value.get("content", value.get("value"))
    if content is None and not (role == "assistant" and calls):
        raise ValueError(f"{place} ({role}) has no content, which only an assistant turn with tool_calls may lack")
    return {"role": role, "content": None if content is None else text_of(content, place), **more, **calls}


def text_of(content: Any, place: str) -> str:
    """Text, or text in the parts {"type": "text", "text": ...} of programming interfaces, joined."""
    if isinstance(content, str):
        return content
    if not isinstance(content, (list, tuple)):
        raise ValueError(f"the content of {place} is {kind(content)}, expected text")
    if not all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content):
        raise ValueError(f"the content of {place} has parts that are no text, and Burnish trains on text only")
    return "".join(part["text"] for part in content)


def tool_calls(value: Any, place: str) -> Message:
    """{"tool_calls": [...]}, or nothing; arguments written as JSON text become the mapping that templates expect to write out."""
    calls = parsed(value)
    if calls is None or (isinstance(calls, (list, tuple)) and not calls):
        return {}
    if not isinstance(calls, (list, tuple)) or not all(isinstance(call, Mapping) for call in calls):
        raise ValueError(f"the tool_calls of {place} are no list of mappings")
    made = [call_of(dict(call)) for call in calls]
    called = [call.get("function") or call for call in made]
    if not all(isinstance(function, Mapping) and isinstance(function.get("name"), str) for function in called):
        raise ValueError(f"a tool call of {place} has no name of a function")
    return {"tool_calls": made}


def call_of(call: dict[str, Any]) -> dict[str, Any]:
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": call_of(dict(call["function"]))}
    arguments = call.get("arguments")
    if isinstance(arguments, str):
        try:
            read = json.loads(arguments)
        except ValueError:
            return call
        return {**call, "arguments": read} if isinstance(read, dict) else call
    return call


def tools_of(values: Mapping[str, Any], columns: Columns) -> list[dict[str, Any]] | None:
    tools = parsed(values.get(columns.tools)) if columns.tools else None
    if tools is None or (isinstance(tools, str) and not tools.strip()):
        return None
    if not isinstance(tools, (list, tuple)):
        raise ValueError(f"`{columns.tools}` is {kind(tools)}, expected a list of tools or the same as JSON text")
    if not all(isinstance(tool, Mapping) for tool in tools):
        raise ValueError(f"`{columns.tools}` holds something that is no mapping; expected the JSON schema of each tool")
    return [dict(tool) for tool in tools] or None


def parsed(value: Any) -> Any:
    """The list that JSON text holds; everything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping", type(None): "empty"}
    return names.get(type(value), f"a {type(value).__name__}")
