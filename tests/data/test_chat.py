"""Conversations: rows of every usual shape, templates of every usual shape, what is learned of them, and how they are shortened."""

from __future__ import annotations

import json
import re
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.data import sources
from burnish.data.chat import (
    CHATML,
    Columns,
    Conversation,
    Cut,
    Turns,
    conversation,
    encode,
    ensure_template,
    prompt,
    shorten,
    turn_end,
    usual,
)

ADDED = ("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>")

# In shape those of popular models, written for these tests.
LLAMA2 = """{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}\
{% elif m.role == 'assistant' %}{{ ' ' + m.content + ' ' + eos_token }}{% else %}{{ raise_exception('only user and assistant') }}\
{% endif %}{% endfor %}"""
LLAMA3 = """{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""
ZEPHYR = """{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}\
{% if loop.last and add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}{% endfor %}"""
GEMMA = """{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}\
{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + m.content | trim + '<end_of_turn>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
THINKING = """{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}\
{% for m in messages %}{% set said = m.content.split('</think>')[-1].lstrip('\\n') if m.role == 'assistant' and loop.index0 < ns.last else m.content %}\
{{ '<|im_start|>' + m.role + '\\n' + said + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
# Begins each answer with a thought, and leaves not even the beginning of it in earlier turns.
PROMPTING = THINKING.replace("else m.content %}", "else ('<think>' + m.content if m.role == 'assistant' else m.content) %}").replace(
    "assistant\\n' }}{% endif", "assistant\\n<think>' }}{% endif"
)
TRAILING = (
    CHATML.replace("{%- generation %}", "").replace("{%- endgeneration %}", "")
    + "{%- if not add_generation_prompt %}{{- 'Goodbye.' }}{%- endif %}"
)
PLAIN = """{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"""
LAST_ONLY = PLAIN + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
COUNTING = "{{ messages | length }} messages\n" + PLAIN
MARKED_WITHOUT_END = """{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}\
{% endgeneration %}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
MARKED_NOTHING = "{% generation %}{% endgeneration %}" + LLAMA3

HI = {"role": "user", "content": "Where is my parcel?"}
FINE = {"role": "assistant", "content": "It is on its way."}
MORE = {"role": "user", "content": "And when?"}
SOON = {"role": "assistant", "content": "On Monday, I hope."}
SYSTEM = {"role": "system", "content": "Be kind."}
CALL = {"type": "function", "function": {"name": "track", "arguments": {"order": "TW-1"}}}
TOOLS = [{"type": "function", "function": {"name": "track", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture(scope="module")
def pieces() -> str:
    """A byte-level BPE, as JSON, that adds BOS where it is let, and cuts blanks off its offsets, as many do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"], show_progress=False)
    made.train_from_iterator(["Where is my parcel?", "It is on its way.", "On Monday, I hope. assistant: user: And when?"] * 3, trainer)
    adds_bos = processors.TemplateProcessing(single="<s> $A", pair=None, special_tokens=[("<s>", made.token_to_id("<s>"))])
    made.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), adds_bos])
    return str(made.to_str())


def tokenizer_with(pieces: str, template: str | None) -> Any:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(pieces), bos_token="<s>", eos_token="</s>", pad_token="</s>")
    if template is not None:
        made.add_special_tokens({"extra_special_tokens": list(ADDED)})
        made.chat_template = template
    return made


def learned(tokenizer: Any, turns: Turns) -> list[str]:
    """Each stretch that is learned, as text."""
    groups = groupby(zip(turns.ids, turns.mask), key=lambda token: token[1])
    return [tokenizer.decode([number for number, _ in tokens], clean_up_tokenization_spaces=False) for mask, tokens in groups if mask]


def shown(pieces: str, template: str, *messages: dict[str, Any], **more: Any) -> list[str]:
    tokenizer = tokenizer_with(pieces, template)
    return learned(tokenizer, encode(Conversation(list(messages), **more), tokenizer, "response"))


# Rows


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["id", "messages"], Columns(messages="messages")),
        (["conversations", "tools"], Columns(messages="conversations", tools="tools")),
        (["prompt", "completion"], Columns(prompt="prompt", response="completion")),
        (["prompt", "answer", "response"], Columns(prompt="prompt", response="response")),
        (["instruction", "input", "output"], Columns(prompt="instruction", context="input", response="output")),
        (["instruction", "context", "response"], Columns(prompt="instruction", context="context", response="response")),
        (["question", "answer", "context"], Columns(prompt="question", response="answer")),
        (["text", "label"], None),
        (["prompt", "chosen"], None),
    ],
)
def test_usual_columns(names: list[str], expected: Columns | None) -> None:
    assert usual(names) == expected


ALPACA = Columns(prompt="instruction", context="input", response="output")
PAIR = Columns(prompt="prompt", response="completion")
LIST = Columns(messages="messages", tools="tools")


@pytest.mark.parametrize(
    ("values", "columns", "expected"),
    [
        ({"messages": [SYSTEM, HI, FINE]}, LIST, [SYSTEM, HI, FINE]),
        ({"messages": json.dumps([HI, FINE])}, LIST, [HI, FINE]),
        ({"messages": [HI, FINE, MORE]}, LIST, [HI, FINE]),
        ({"messages": [HI, {**FINE, "tool_calls": None, "thinking": None, "name": "Ada"}]}, LIST, [HI, {**FINE, "name": "Ada"}]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": HI["content"]}]}, FINE]}, LIST, [HI, FINE]),
        ({"messages": [{"from": "human", "value": HI["content"]}, {"from": "gpt", "value": FINE["content"]}]}, LIST, [HI, FINE]),
        ({"messages": [{**HI, "content": ""}, {**FINE, "content": ""}]}, LIST, [{**HI, "content": ""}, {**FINE, "content": ""}]),
        ({"prompt": HI["content"], "completion": FINE["content"]}, PAIR, [HI, FINE]),
        ({"prompt": HI["content"], "completion": ""}, PAIR, [HI, {**FINE, "content": ""}]),
        ({"prompt": [SYSTEM, HI], "completion": [FINE]}, PAIR, [SYSTEM, HI, FINE]),
        ({"prompt": json.dumps([HI]), "completion": "[1, 2]"}, PAIR, [HI, {**FINE, "content": "[1, 2]"}]),
        ({"prompt": "[]", "completion": "[]"}, PAIR, [{**HI, "content": "[]"}, {**FINE, "content": "[]"}]),
        ({"instruction": "Add.", "input": "2, 3", "output": "5"}, ALPACA, [("user", "Add.\n\n2, 3"), ("assistant", "5")]),
        ({"instruction": "Add.", "input": "", "output": "5"}, ALPACA, [("user", "Add."), ("assistant", "5")]),
        ({"instruction": "Add.", "output": "5"}, ALPACA, [("user", "Add."), ("assistant", "5")]),
    ],
)
def test_rows_become_messages(values: dict[str, Any], columns: Columns, expected: list[Any]) -> None:
    messages = [each if isinstance(each, dict) else {"role": each[0], "content": each[1]} for each in expected]
    assert conversation(values, columns) == Conversation(messages)


def test_tools_and_calls_are_kept_and_arguments_read() -> None:
    written = {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "track", "arguments": '{"order": "TW-1"}'}}]}
    result = {"role": "tool", "name": "track", "content": "on its way"}
    made = conversation({"messages": [HI, written, result, FINE], "tools": json.dumps(TOOLS)}, LIST)
    assert made == Conversation([HI, {"role": "assistant", "content": None, "tool_calls": [CALL]}, result, FINE], TOOLS)
    assert conversation({"messages": [HI, FINE], "tools": ""}, LIST).tools is None


def test_a_system_text_stands_first_where_the_row_has_none() -> None:
    columns = Columns(messages="messages", system="Be brief.")
    assert conversation({"messages": [HI, FINE]}, columns).messages[0] == {"role": "system", "content": "Be brief."}
    assert conversation({"messages": [SYSTEM, HI, FINE]}, columns).messages[0] == SYSTEM
    developer = {"role": "developer", "content": "Be kind."}
    assert conversation({"messages": [developer, HI, FINE]}, columns).messages[0] == developer


def test_rows_to_be_answered_need_no_response() -> None:
    assert conversation({"prompt": HI["content"]}, PAIR, labelled=False).messages == [HI]
    assert conversation({"messages": [HI, FINE, MORE]}, LIST, labelled=False).messages == [HI, FINE, MORE]
    with pytest.raises(ValueError, match="`prompt` is missing"):
        conversation({"completion": "yes"}, PAIR, labelled=False)


@pytest.mark.parametrize(
    ("values", "columns", "reason"),
    [
        ({}, LIST, "`messages` is missing"),
        ({"messages": []}, LIST, "empty list"),
        ({"messages": "{'role': 'user'}"}, LIST, "text that is no JSON list"),
        ({"messages": 3}, LIST, "is a number, expected a list of messages"),
        ({"messages": ["hello"]}, LIST, "message 1 of `messages` is text"),
        ({"messages": [HI]}, LIST, "no assistant turn"),
        ({"messages": [{"role": "asistant", "content": "x"}]}, LIST, "role 'asistant' - did you mean `assistant`"),
        ({"messages": [{"content": "x"}]}, LIST, "the role None"),
        ({"messages": [HI, {"role": "assistant"}]}, LIST, r"message 2 of `messages` \(assistant\) has no content"),
        ({"messages": [HI, {"role": "assistant", "content": 5}]}, LIST, "content of message 2 of `messages` is a number"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}, FINE]}, LIST, "parts that are no text"),
        ({"messages": [HI, {**FINE, "tool_calls": [{"type": "function"}]}]}, LIST, "no name of a function"),
        ({"messages": [HI, {**FINE, "tool_calls": "track"}]}, LIST, "no list of mappings"),
        ({"messages": [HI, FINE], "tools": [3]}, LIST, "no mapping"),
        ({"messages": [HI, FINE], "tools": "track"}, LIST, "`tools` is text"),
        ({"prompt": " ", "completion": "x"}, PAIR, "`prompt` is empty"),
        ({"prompt": "x"}, PAIR, "`completion` is missing"),
        ({"prompt": "x", "completion": 3}, PAIR, "`completion` is a number"),
        ({"prompt": 3, "completion": "x"}, PAIR, "`prompt` is a number"),
        ({"prompt": [HI, FINE, MORE], "completion": [HI]}, PAIR, "no assistant turn"),
        ({"instruction": [HI], "input": "x", "output": "x"}, ALPACA, "cannot be added"),
        ({"instruction": "x", "input": 3, "output": "x"}, ALPACA, "`input` is a number"),
    ],
)
def test_rows_that_are_no_conversation_say_why(values: dict[str, Any], columns: Columns, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        conversation(values, columns)


# Templates

SHAPES = {
    "llama2": (LLAMA2, [" It is on its way. </s>", " On Monday, I hope. </s>"]),
    "llama3": (LLAMA3, ["It is on its way.<|eot_id|>", "On Monday, I hope.<|eot_id|>"]),
    "zephyr": (ZEPHYR, ["\nIt is on its way.</s>", "\nOn Monday, I hope.</s>"]),
    "gemma": (GEMMA, ["It is on its way.<end_of_turn>", "On Monday, I hope.<end_of_turn>"]),
    "thinking": (THINKING, ["It is on its way.<|im_end|>", "On Monday, I hope.<|im_end|>"]),
    "prompting": (PROMPTING, ["It is on its way.<|im_end|>", "On Monday, I hope.<|im_end|>"]),
    "trailing": (TRAILING, ["It is on its way.<|im_end|>", "On Monday, I hope.<|im_end|>"]),
    "plain": (PLAIN, [" It is on its way.\n", " On Monday, I hope.\n</s>"]),
    "last_only": (LAST_ONLY, [" It is on its way.\n", " On Monday, I hope.\n</s>"]),
    "chatml": (CHATML, ["It is on its way.<|im_end|>", "On Monday, I hope.<|im_end|>"]),
    "marked_without_end": (MARKED_WITHOUT_END, ["It is on its way.<|im_end|>", "On Monday, I hope.<|im_end|>"]),
    "marked_nothing": (MARKED_NOTHING, ["It is on its way.<|eot_id|>", "On Monday, I hope.<|eot_id|>"]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_each_assistant_turn_and_its_end_are_learned(pieces: str, name: str) -> None:
    template, expected = SHAPES[name]
    tokenizer = tokenizer_with(pieces, template)
    turns = encode(Conversation([HI, FINE, MORE, SOON]), tokenizer, "response")
    assert learned(tokenizer, turns) == expected
    text = tokenizer.apply_chat_template([HI, FINE, MORE, SOON], tokenize=False)
    extra = [tokenizer.eos_token_id] if name == "plain" else []
    assert turns.ids == [*tokenizer(text, add_special_tokens=False)["input_ids"], *extra]
    everything = encode(Conversation([HI, FINE, MORE, SOON]), tokenizer, "everything")
    assert everything == Turns(turns.ids, [True] * len(turns))


@pytest.mark.parametrize("name", SHAPES)
def test_what_generation_starts_from_is_what_was_learned_from(pieces: str, name: str) -> None:
    tokenizer = tokenizer_with(pieces, SHAPES[name][0])
    for messages in ([HI, FINE], [HI, FINE, MORE, SOON]):
        turns = encode(Conversation(messages), tokenizer, "response")
        start = prompt(Conversation(messages), tokenizer)
        assert start == prompt(Conversation(messages[:-1]), tokenizer) == turns.ids[: len(start)]
        assert not turns.mask[len(start) - 1] and turns.mask[len(start)]


@pytest.mark.parametrize("name", sorted(set(SHAPES) - {"zephyr"}))
def test_the_same_with_pieces_that_begin_words(name: str) -> None:
    """SentencePiece's way, as Llama 2 and Gemma have it: a piece holds the blank before its word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(prepend_scheme="never"), decoders.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    made.train_from_iterator(
        ["Where is my parcel? It is on its way. On Monday, I hope. assistant: user: And when? [INST] [/INST]\n"], trainer
    )
    tokenizer = tokenizer_with(made.to_str(), SHAPES[name][0])
    turns = encode(Conversation([HI, FINE, MORE, SOON]), tokenizer, "response")
    start = prompt(Conversation([HI, FINE, MORE]), tokenizer)
    assert learned(tokenizer, turns) == SHAPES[name][1] and turns.ids[: len(start)] == start and turns.mask[len(start)]


@pytest.mark.parametrize("name", SHAPES)
def test_empty_turns_teach_only_their_end(pieces: str, name: str) -> None:
    template, expected = SHAPES[name]
    empty = shown(pieces, template, HI, {**FINE, "content": ""}, {**MORE, "content": ""}, {**SOON, "content": ""})
    ends = [text.replace(said["content"], "") for text, said in zip(expected, (FINE, SOON))]
    assert [text.strip(" ") for text in empty] == [text.strip(" ") for text in ends]


@pytest.mark.parametrize("name", sorted(set(SHAPES) - {"llama2", "gemma"}))
def test_a_system_prompt_is_read_and_not_learned(pieces: str, name: str) -> None:
    template, expected = SHAPES[name]
    assert shown(pieces, template, SYSTEM, HI, FINE, MORE, SOON) == expected


@pytest.mark.parametrize(("template", "words"), [(GEMMA, "System role not supported"), (LLAMA2, "only user and assistant")])
def test_what_a_template_refuses_is_told_in_its_words(pieces: str, template: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"does not take it: {words}"):
        shown(pieces, template, SYSTEM, HI, FINE)


def test_thoughts_that_a_template_drops_from_earlier_turns(pieces: str) -> None:
    thoughtful = [{**said, "content": f"<think>\nhm\n</think>\n\n{said['content']}"} for said in (FINE, SOON)]
    assert shown(pieces, THINKING, HI, thoughtful[0], MORE, thoughtful[1]) == [
        "It is on its way.<|im_end|>",
        "<think>\nhm\n</think>\n\nOn Monday, I hope.<|im_end|>",
    ]
    # The thought of a first call is there while it is answered, and gone from the whole.
    result = {"role": "tool", "content": "rain"}
    assert shown(pieces, THINKING, HI, thoughtful[0], result, thoughtful[1], MORE, SOON) == [
        "It is on its way.<|im_end|>",
        "On Monday, I hope.<|im_end|>",
        "On Monday, I hope.<|im_end|>",
    ]


def test_an_earlier_answer_that_begins_like_the_thought_it_was_prompted_with(pieces: str) -> None:
    assert shown(pieces, PROMPTING, HI, {**FINE, "content": "<the way>"}, MORE, SOON)[0] == "<the way><|im_end|>"


def test_a_prompt_may_end_with_white_space_that_the_whole_has_not(pieces: str) -> None:
    """As Nemotron's: it prompts with the beginning of a thought and a line break, and writes thoughts that are empty without one."""
    thought = LLAMA3.replace("+ m.content | trim", "+ ('<think></think>' if m.role == 'assistant' else '') + m.content | trim")
    template = thought.replace("assistant<|end_header_id|>\\n\\n' }}", "assistant<|end_header_id|>\\n\\n<think>\\n' }}")
    assert shown(pieces, template, HI, FINE, MORE, SOON)[1] == "</think>On Monday, I hope.<|eot_id|>"


def test_a_template_that_cannot_be_compared_is_refused_with_the_reason(pieces: str) -> None:
    with pytest.raises(
        ValueError, match=r"assistant turn 1 .*From character 0 on it is '1 messages.*but '2 messages.*generation %}.*everything"
    ):
        shown(pieces, COUNTING, HI, FINE)
    tokenizer = tokenizer_with(pieces, COUNTING)
    assert all(encode(Conversation([HI, FINE]), tokenizer, "everything").mask)
    quoting = LLAMA3.replace("m.content | trim", "('> ' if not loop.last and m.role == 'assistant' else '') + m.content | trim")
    with pytest.raises(ValueError, match=r"writes assistant turn 1 differently .*'It is on its way.*but '> It is on its way"):
        shown(pieces, quoting, HI, FINE, MORE, SOON)
    with pytest.raises(ValueError, match="begins with an assistant turn"):
        shown(pieces, LLAMA3, FINE, HI, SOON)
    assert shown(pieces, CHATML, FINE, HI, SOON) == ["It is on its way.<|im_end|>", "On Monday, I hope.<|im_end|>"]


def test_an_answer_that_the_generation_prompt_does_not_lead_to_is_refused(pieces: str) -> None:
    template = LLAMA3.replace("assistant<|end_header_id|>\\n\\n' }}{% endif", "assistant<|end_header_id|>\\n\\n<think>' }}{% endif")
    with pytest.raises(ValueError, match=r"prompts assistant turn 1 differently .*'<think>', but 'It is on its way"):
        shown(pieces, template, HI, FINE)


def test_marks_that_leave_out_a_written_end_are_refused(pieces: str) -> None:
    template = MARKED_WITHOUT_END.replace("{{ '<|im_end|>\\n' }}{% endfor", "{{ '\\n###<|im_end|>\\n' }}{% endfor")
    with pytest.raises(ValueError, match="leave out what ends a turn"):
        shown(pieces, template, HI, FINE)


def test_blanks_at_the_edges_of_marked_words_are_learned(pieces: str) -> None:
    for content in (" on its way", "on its way ", "\n on its way \n", "  "):
        assert shown(pieces, CHATML, HI, {**FINE, "content": content}, MORE, SOON) == [
            f"{content}<|im_end|>",
            "On Monday, I hope.<|im_end|>",
        ]


def test_a_blank_before_marked_words_is_not_learned(pieces: str) -> None:
    said = {**FINE, "content": "漢字"}
    assert shown(pieces, CHATML.replace("message.role) + '\\n'", "message.role) + ' '"), HI, said) == ["漢字<|im_end|>"]


def test_words_of_several_bytes_and_tokens_are_learned_whole(pieces: str) -> None:
    said = {**FINE, "content": "漢字 🙂 – é"}
    for name in ("llama3", "chatml", "plain", "zephyr"):
        template, expected = SHAPES[name]
        assert shown(pieces, template, said | HI, said, MORE, SOON)[0] == expected[0].replace(FINE["content"], said["content"])


def test_only_the_response_is_learned_where_the_prompt_holds_earlier_turns(pieces: str) -> None:
    made = conversation(
        {"prompt": [HI, FINE, MORE], "completion": [SOON]}, Columns(prompt="prompt", response="completion", system="Be kind.")
    )
    assert (made.messages[0]["role"], made.given) == ("system", 4)
    for template in (LLAMA3, CHATML, THINKING):
        tokenizer = tokenizer_with(pieces, template)
        assert len(learned(tokenizer, encode(made, tokenizer, "response"))) == 1
    assert shown(pieces, LLAMA3, FINE, HI, SOON, given=2) == ["On Monday, I hope.<|eot_id|>"]
    with pytest.raises(ValueError, match="no assistant turn"):
        encode(Conversation([HI, FINE], given=2), tokenizer, "response")


@pytest.mark.parametrize("name", SHAPES)
def test_special_tokens_are_written_once(pieces: str, name: str) -> None:
    """Also where the tokenizer would add a BOS by itself, and where padding is EOS."""
    tokenizer = tokenizer_with(pieces, SHAPES[name][0])
    assert tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id and tokenizer.pad_token_id == tokenizer.eos_token_id
    turns = encode(Conversation([HI, FINE]), tokenizer, "response")
    assert turns.ids.count(tokenizer.bos_token_id) == (1 if name in ("llama2", "llama3", "gemma", "marked_nothing") else 0)
    ends = set(turn_end(tokenizer))
    assert [number in ends for number, mask in zip(turns.ids, turns.mask) if mask].count(True) == 1
    assert len(turn_end(tokenizer)) == len(ends) and tokenizer.eos_token_id in ends


def test_the_end_of_a_turn(pieces: str) -> None:
    expected = {"llama3": ["<|eot_id|>", "</s>"], "zephyr": ["</s>"], "gemma": ["<end_of_turn>", "</s>"], "plain": ["</s>"]}
    tokenizers = {name: tokenizer_with(pieces, SHAPES[name][0]) for name in expected}
    assert {name: each.convert_ids_to_tokens(turn_end(each)) for name, each in tokenizers.items()} == expected


def test_an_end_that_nobody_declared_special(pieces: str) -> None:
    tokenizer = tokenizer_with(pieces, None)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.chat_template = THINKING
    assert tokenizer.convert_ids_to_tokens(turn_end(tokenizer)) == ["<|im_end|>", "</s>"]
    turns = encode(Conversation([HI, FINE]), tokenizer, "response")
    assert learned(tokenizer, turns) == ["It is on its way.<|im_end|>"] and tokenizer.eos_token_id not in turns.ids


def test_an_end_of_several_tokens_is_learned_whole(pieces: str) -> None:
    template = LLAMA3.replace("+ '<|eot_id|>'", "+ '<|im_end|><|eot_id|>'")
    assert shown(pieces, template, HI, FINE, MORE, SOON) == [
        "It is on its way.<|im_end|><|eot_id|>",
        "On Monday, I hope.<|im_end|><|eot_id|>",
    ]


def test_a_template_without_ends_does_not_teach_the_next_header(pieces: str) -> None:
    template = LLAMA3.replace(" + '<|eot_id|>'", "")
    assert shown(pieces, template, HI, FINE, MORE, SOON) == ["It is on its way.", "On Monday, I hope.</s>"]
    spaced = PLAIN.replace("{% endfor %}", "{{ '\\n' if loop.last and not add_generation_prompt }}{% endfor %}")
    assert shown(pieces, spaced, HI, FINE, MORE, SOON) == [" It is on its way.", " On Monday, I hope.\n\n</s>"]


def test_what_cannot_be_tokenized_says_why(pieces: str) -> None:
    tokenizer = tokenizer_with(pieces, PLAIN)
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="has no EOS"):
        encode(Conversation([HI, FINE]), tokenizer, "response")
    with pytest.raises(ValueError, match="no chat template"):
        encode(Conversation([HI, FINE]), tokenizer_with(pieces, None), "response")
    with pytest.raises(ValueError, match="nothing stands before the answer"):
        prompt(Conversation([FINE]), tokenizer)
    with pytest.raises(ValueError, match="does not write what the assistant says"):
        turn_end(tokenizer_with(pieces, "{{ messages[0].content }}"))


def test_a_tokenizer_without_offsets_is_refused() -> None:
    from transformers import ByT5Tokenizer

    tokenizer = ByT5Tokenizer()
    tokenizer.chat_template = ZEPHYR
    with pytest.raises(ValueError, match=r"ByT5Tokenizer.*tokenizer\.json"):
        encode(Conversation([HI, FINE]), tokenizer, "response")


# ChatML


def test_a_tokenizer_without_a_template_gets_chatml(pieces: str) -> None:
    tokenizer = tokenizer_with(pieces, None)
    size = len(tokenizer)
    assert ensure_template(tokenizer) == ["<|im_start|>", "<|im_end|>"] and len(tokenizer) == size + 2
    assert ensure_template(tokenizer) == [] and tokenizer.eos_token == "</s>"
    text = tokenizer.apply_chat_template([SYSTEM, HI, FINE], tokenize=False, add_generation_prompt=True)
    # This tokenizer begins texts with BOS, and so must the template.
    assert text == (
        "<s><|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWhere is my parcel?<|im_end|>\n"
        "<|im_start|>assistant\nIt is on its way.<|im_end|>\n<|im_start|>assistant\n"
    )
    turns = encode(Conversation([SYSTEM, HI, FINE]), tokenizer, "response")
    assert turns.ids.count(tokenizer.bos_token_id) == 1 and learned(tokenizer, turns) == ["It is on its way.<|im_end|>"]


def test_chatml_tokens_that_are_known_are_not_added_again(pieces: str) -> None:
    tokenizer = tokenizer_with(pieces, LLAMA3)
    tokenizer.chat_template = None
    assert ensure_template(tokenizer) == [] and tokenizer.chat_template is not None
    assert set(ADDED) <= set(tokenizer.extra_special_tokens)


def test_chatml_writes_tools_calls_and_results(pieces: str) -> None:
    tokenizer = tokenizer_with(pieces, CHATML)
    called = {"role": "assistant", "content": None, "tool_calls": [CALL, {"name": "track", "arguments": "{}"}]}
    spoken = {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}
    result = {"role": "tool", "name": "track", "content": "on its way"}
    made = Conversation([SYSTEM, HI, called, result, spoken, result, FINE], TOOLS)
    call = '<tool_call>\n{"name": "track", "arguments": {"order": "TW-1"}}\n</tool_call>'
    assert learned(tokenizer, encode(made, tokenizer, "response")) == [
        f'{call}\n<tool_call>\n{{"name": "track", "arguments": {{}}}}\n</tool_call><|im_end|>',
        f"Let me see.\n{call}<|im_end|>",
        "It is on its way.<|im_end|>",
    ]
    text = tokenizer.decode(encode(made, tokenizer, "response").ids)
    assert json.dumps(TOOLS[0]) in text.partition("<|im_end|>")[0] and text.startswith("<|im_start|>system\nBe kind.\n\n# Tools")
    assert text.count("<|im_start|>tool\n<tool_response>\non its way\n</tool_response><|im_end|>\n") == 2


def test_templates_that_know_no_tools_are_refused(pieces: str) -> None:
    calling = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    with pytest.raises(ValueError, match="leaves out calls"):
        shown(pieces, LLAMA3, {**HI, "content": "track"}, calling)
    first_only = LLAMA3.replace("+ m.content | trim", "+ m.content | default('') + (m.tool_calls[0].function.name if m.tool_calls else '')")
    with pytest.raises(ValueError, match="leaves out calls"):
        shown(pieces, first_only, HI, {**calling, "tool_calls": [CALL, CALL]})
    assert shown(pieces, first_only, HI, {**calling, "content": None}) == ["track<|eot_id|>"]
    with pytest.raises(ValueError, match="leaves out the tools"):
        shown(pieces, LLAMA3, HI, FINE, tools=TOOLS)


# What transformers and TRL make of the same


def test_the_mask_is_that_of_transformers_where_the_template_marks(pieces: str) -> None:
    tokenizer = tokenizer_with(pieces, CHATML)
    for row in sources.read("bundled:conversations-validation"):
        made = conversation(row.values, Columns(messages="messages"))
        peer = tokenizer.apply_chat_template(made.messages, return_dict=True, return_assistant_tokens_mask=True)
        assert encode(made, tokenizer, "response") == Turns(peer["input_ids"], [bool(mask) for mask in peer["assistant_masks"]])


@pytest.mark.parametrize("kind", ["messages", "prompt and completion"])
def test_labels_are_those_of_trls_trainer(tiny_llama: Path, tmp_path: Path, kind: str) -> None:
    """Of a completion, TRL learns also what follows the end of the turn, a line break here."""
    import datasets
    import trl
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama, model_max_length=4096)
    ensure_template(tokenizer)
    talks = [row.values["messages"] for row in sources.read("bundled:conversations-validation")]
    whole = kind == "messages"
    rows = [{"messages": talk} if whole else {"prompt": talk[:-1], "completion": talk[-1:]} for talk in talks]
    options = {"report_to": "none", "use_cpu": True, "bf16": False, "max_length": None, "assistant_only_loss": whole}
    trainer = trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_llama),
        args=trl.SFTConfig(output_dir=str(tmp_path), **options),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    columns = usual(list(rows[0]))
    assert columns is not None
    for row, peer in zip(rows, trainer.train_dataset, strict=True):
        turns = encode(conversation(row, columns), tokenizer, "response")
        theirs = [label != -100 for label in peer["labels"]]
        assert turns.ids == peer["input_ids"] and turns.mask == (theirs if whole else [*theirs[:-1], False])


@pytest.mark.parametrize("name", ["cohere", "cohere2", "gemma", "gemma3", "llama3", "phi3", "qwen2_5", "qwen3_instruct_2507"])
def test_comparison_finds_what_trls_training_templates_mark(pieces: str, name: str) -> None:
    """TRL keeps the templates of models, and beside them the same with marks; some marks take in what follows the end of a turn."""
    import trl

    folder = Path(trl.__file__).parent / "chat_templates"
    original, marked = ((folder / f"{name}{kind}.jinja").read_text(encoding="utf-8") for kind in ("", "_training"))
    tokenizer = tokenizer_with(pieces, original)
    tokenizer.add_special_tokens({"extra_special_tokens": sorted(set(re.findall(r"<\|\w+\|>|<\w+_of_turn>", original)))})
    messages = [HI, FINE, MORE, SOON]
    turns = encode(Conversation(messages), tokenizer, "response")
    peer = tokenizer.apply_chat_template(messages, chat_template=marked, return_dict=True, return_assistant_tokens_mask=True)
    theirs = Turns(peer["input_ids"], [bool(mask) for mask in peer["assistant_masks"]])
    assert turns.ids == theirs.ids
    assert [text.strip() for text in learned(tokenizer, turns)] == [
        text.strip().removesuffix("\n</s>") for text in learned(tokenizer, theirs)
    ]


def test_chatml_is_a_template_that_trl_would_train_with(pieces: str) -> None:
    from trl import chat_template_utils as trl

    tokenizer = tokenizer_with(pieces, CHATML)
    assert trl.is_chat_template_prefix_preserving(tokenizer) and trl.is_chat_template_stop_token_trained(tokenizer)
    assert trl.supports_tool_calling(tokenizer)


# Shortening


def test_the_longest_stretches_lose_their_middle_first() -> None:
    mask = [False] * 40 + [True] * 5 + [False] * 20 + [True] * 5
    turns = Turns(list(range(70)), mask)
    assert shorten(turns, 70) == (turns, Cut())
    shorter, cut = shorten(turns, 60)
    assert cut == Cut(prompt=10) and shorter.ids == [*range(15), *range(25, 70)]
    shorter, cut = shorten(turns, 46)  # 40 -> 18, 20 -> 18
    assert cut == Cut(prompt=24) and shorter.ids == [*range(9), *range(31, 54), *range(56, 70)]
    shorter, cut = shorten(turns, 40)  # 16 and 16 are left, and two tokens of the response go
    assert cut == Cut(prompt=28, response=2) and shorter.ids[-4:] == [64, 65, 66, 67]


def test_everything_is_cut_at_its_end() -> None:
    turns = Turns(list(range(50)), [True] * 50)
    assert shorten(turns, 20) == (Turns(list(range(20)), [True] * 20), Cut(response=30))
    half = Turns(list(range(50)), [False] * 40 + [True] * 10)
    assert shorten(half, 42, keep_end=False) == (Turns(list(range(42)), [False] * 40 + [True] * 2), Cut(response=8))
    assert shorten(half, 42) == (Turns([*range(16), *range(24, 50)], [False] * 32 + [True] * 10), Cut(prompt=8))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=8), st.integers(1, 200))
def test_shortening_takes_no_more_than_it_must(stretches: list[tuple[int, bool]], max_length: int) -> None:
    mask = [learn for length, learn in stretches for _ in range(length)]
    turns = Turns(list(range(len(mask))), mask)
    shorter, cut = shorten(turns, max_length)
    assert len(shorter) == min(len(turns), max_length) == len(turns) - cut.prompt - cut.response
    assert shorter.ids == sorted(shorter.ids) and shorter.mask == [mask[at] for at in shorter.ids]
    assert cut.response == sum(mask) - sum(shorter.mask)
    kept = set(shorter.ids)
    unlearned = [[at for at, _ in group] for learn, group in groupby(enumerate(mask), key=lambda each: each[1]) if not learn]
    left = [[at for at in stretch if at in kept] for stretch in unlearned]
    if cut.response == 0 and shorter.ids[-1] == turns.ids[-1]:
        for before, after in zip(unlearned, left):
            assert before == after or (len(after) >= 16 and before[:8] == after[:8] and before[-8:] == after[-8:])
        taken = [len(after) for before, after in zip(unlearned, left) if before != after]
        assert not taken or all(len(after) <= min(taken) + 1 for after in left)
    else:
        assert all(len(after) <= 16 for after in left)
