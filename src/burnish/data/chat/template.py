"""Chat templates: how they are rendered, what ends a turn under them, and one for tokenizers that have none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CHATML = """\
{%- set ns = namespace(system='', first=0) %}
{%- if messages[0].role in ('system', 'developer') %}
    {%- set ns.system = messages[0].content %}
    {%- set ns.first = 1 %}
{%- endif %}
{%- if ns.system or tools %}
    {{- '<|im_start|>system\\n' + ns.system }}
    {%- if tools %}
        {{- '\\n\\n' if ns.system }}
        {{- '# Tools\\n\\nYou may call these functions, whose signatures stand within <tools></tools>:\\n<tools>\\n' }}
        {%- for tool in tools %}
            {{- tool | tojson + '\\n' }}
        {%- endfor %}
        {{- '</tools>\\n\\nFor each call, write its name and arguments as JSON within <tool_call></tool_call>:\\n' }}
        {{- '<tool_call>\\n{"name": <function-name>, "arguments": <arguments>}\\n</tool_call>' }}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages[ns.first:] %}
    {{- '<|im_start|>' + ('system' if message.role == 'developer' else message.role) + '\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}
            {{- message.content or '' }}
            {%- for tool_call in message.tool_calls or [] %}
                {%- set call = tool_call.function or tool_call %}
                {{- '\\n' if message.content or not loop.first }}
                {{- '<tool_call>\\n{"name": ' + call.name | tojson + ', "arguments": ' }}
                {{- call.arguments if call.arguments is string else (call.arguments or {}) | tojson }}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
            {{- '<|im_end|>' }}
        {%- endgeneration %}
    {%- elif message.role == 'tool' %}
        {{- '<tool_response>\\n' + (message.content or '') + '\\n</tool_response><|im_end|>' }}
    {%- else %}
        {{- (message.content or '') + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
"""ChatML as Qwen and Hermes write it, tools included, with marks around what the assistant writes: its text, its calls, its end."""

CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")
GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
PROBE = "Certainly"


@dataclass(frozen=True)
class Ending:
    """What a template writes after an assistant's last word: `closing` in all, of which `tail` follows the token that ends the turn
    (and any that adjoin it).

    `ids` are the tokens at which an answer is over: the one that ends a turn, and the tokenizer's EOS.
    """

    ids: list[int]
    closing: str
    tail: str

    @property
    def ended(self) -> str:
        """What closes a turn, up to the token that ends it."""
        return self.closing.removesuffix(self.tail)


def ensure_template(tokenizer: Any) -> list[str]:
    """Gives a tokenizer without a chat template `CHATML`, and the tokens added to its vocabulary for it.

    The EOS stays what it was. A tokenizer that begins texts with BOS gets a template that does so too, since templates
    are tokenized without the tokenizer's own special tokens. An embedding must grow by the tokens that are returned.
    """
    if tokenizer.chat_template is not None:
        return []
    begins = tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    tokenizer.chat_template = ("{{- bos_token }}\n" if begins else "") + CHATML
    known = tokenizer.get_vocab()
    tokenizer.add_special_tokens({"extra_special_tokens": list(CHATML_TOKENS)}, replace_extra_special_tokens=False)
    return [token for token in CHATML_TOKENS if token not in known]


def render(tokenizer: Any, messages: Sequence[dict[str, Any]], tools: Any = None, prompting: bool = False) -> str:
    """The text of messages under the tokenizer's template; `prompting` adds the beginning of an assistant turn.

    Raises ValueError with the template's own words where it does not take them.
    """
    return render_marked(tokenizer, messages, tools, prompting)[0]


def render_marked(
    tokenizer: Any, messages: Sequence[dict[str, Any]], tools: Any = None, prompting: bool = False
) -> tuple[str, list[tuple[int, int]]]:
    """The text, and the stretches (start, end) of it that the template marks with `{% generation %}`, in characters.

    transformers' own mask is one of tokens, and goes wrong where a stretch begins or ends with a character that no token covers
    (byte-level tokenizers cut blanks off their offsets): from there on nothing, or everything, counts as the assistant's.
    """
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    if tokenizer.chat_template is None:
        raise ValueError("the tokenizer has no chat template")
    # Missing keys are what templates ask for; a None they would write out as a word.
    present = [{key: value for key, value in message.items() if value is not None} for message in messages]
    try:
        template = tokenizer.get_chat_template(None, tools)
        texts, marks = render_jinja_template(
            conversations=[present],
            tools=tools,
            chat_template=template,
            return_assistant_tokens_mask=bool(GENERATION.search(template)),
            add_generation_prompt=prompting,
            **tokenizer.special_tokens_map,
        )
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise ValueError(f"the chat template does not take it: {error}") from error
    return texts[0], sorted(mark for marked in marks for mark in marked)


def tokenized(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Token ids of rendered text, and the characters (start, end) of each. The template wrote the special tokens, so none are added."""
    if not tokenizer.is_fast:
        raise ValueError(
            f"the tokenizer ({type(tokenizer).__name__}) cannot tell which characters a token stands for, "
            "so that the response cannot be found: save it as a fast tokenizer (tokenizer.json)"
        )
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False)
    return list(encoded["input_ids"]), [(start, end) for start, end in encoded["offset_mapping"]]


def special_ids(tokenizer: Any) -> set[int]:
    added = tokenizer.added_tokens_decoder.items()
    return set(tokenizer.all_special_ids) | {number for number, token in added if token.special}


def ending(tokenizer: Any) -> Ending:
    """How the template ends an assistant turn, seen from a small conversation."""
    text = render(tokenizer, [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": PROBE}])
    if PROBE not in text:
        raise ValueError("the chat template does not write what the assistant says")
    after = text.rindex(PROBE) + len(PROBE)
    ids, offsets = tokenized(tokenizer, text)
    beyond = [(number, span) for number, span in zip(ids, offsets) if span[0] >= after]
    # Some models' end of turn is an added token that nobody declared special; blanks may be added tokens too.
    added = {number for number, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}
    known = next((known for known in (special_ids(tokenizer), added) if any(number in known for number, _ in beyond)), set())
    specials = [(number, span) for number, span in beyond if number in known]
    stop = specials[0][1][0] if specials else len(text)
    for _, (start, end) in specials:
        stop = end if start == stop else stop
    stops = [*(number for number, _ in specials[:1]), tokenizer.eos_token_id]
    return Ending(list(dict.fromkeys(number for number in stops if number is not None)), text[after:], text[stop:])


def turn_end(tokenizer: Any) -> list[int]:
    """The tokens at which an answer is over: the one that ends an assistant turn under the template, and EOS."""
    return ending(tokenizer).ids
