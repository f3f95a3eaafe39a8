"""How a saved model is used with transformers alone: a tag of the hub, and code that runs in the folder of the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from burnish.methods.adapters import SETTINGS
from burnish.methods.folders import BASE

TAGS = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForSeq2SeqLM": "text2text-generation",
    "AutoModelForCausalLM": "text-generation",
}
"""The class that opens a model -> the hub's tag for what it does."""

PIPED = {"text-classification", "token-classification", "fill-mask", "text-generation"}
"""What transformers has a pipeline for."""

ASKED = {
    "text-classification": "print(use(EXAMPLE, truncation=True))",
    "token-classification": 'print(use("Ada Lovelace lived in London.", aggregation_strategy="simple"))',
    "fill-mask": 'print(use(f"The parcel was {tokenizer.mask_token} today."))',
    "text-generation": "print(use(EXAMPLE, max_new_tokens=64))",
    "text2text-generation": """inputs = tokenizer(EXAMPLE, return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=64)[0], skip_special_tokens=True))""",
    "question-answering": """inputs = tokenizer("Who wrote the notes?", "The notes were written by Ada Lovelace.", return_tensors="pt")
with torch.no_grad():
    output = model(**inputs)
start, end = int(output.start_logits.argmax()), int(output.end_logits.argmax())
print(tokenizer.decode(inputs["input_ids"][0, start : end + 1]))""",
}


@dataclass(frozen=True)
class Usage:
    """`tag` and `library` as the hub names them; `code` for the folder of the model, None where transformers and peft cannot open it."""

    tag: str
    library: str
    code: str | None


def usage(folder: Path, auto: str, columns: Sequence[str], prefix: str = "", chats: bool = False) -> Usage:
    """How the model in `folder` is used, which transformers' class `auto` opens. `columns` are those that a row to predict has, `prefix`
    stands before a text."""
    tag = TAGS.get(auto, "")
    adapted = (folder / "adapter_config.json").is_file()
    if not tag or (folder / SETTINGS).is_file():
        return Usage(tag, "burnish", None)
    apart = adapted and (folder / BASE).is_dir()
    return Usage(tag, "peft" if adapted else "transformers", code(tag, auto, apart, example(columns, prefix, chats)))


def code(tag: str, auto: str, apart: bool, example: str) -> str:
    """`apart`: the weights under an adapter stand in a folder of their own, since transformers cannot put the two together."""
    lines = ["import torch"] if tag == "question-answering" else []
    lines += ["from peft import PeftModel"] if apart else []
    lines += [f"from transformers import {auto}, AutoTokenizer{', pipeline' if tag in PIPED else ''}", ""]
    lines += ['folder = "."  # where this file is']
    lines += ["tokenizer = AutoTokenizer.from_pretrained(folder)"]
    if apart:
        lines += [f'model = PeftModel.from_pretrained({auto}.from_pretrained(f"{{folder}}/{BASE}"), folder).eval()']
    else:
        lines += [f"model = {auto}.from_pretrained(folder).eval()"]
    lines += [f'use = pipeline("{tag}", model=model, tokenizer=tokenizer)'] if tag in PIPED else []
    return "\n".join([*lines, ASKED[tag].replace("EXAMPLE", example)])


def example(columns: Sequence[str], prefix: str, chats: bool) -> str:
    """What a row looks like in code: a text, a pair, or the messages of a conversation."""
    text = "Where is my parcel?"
    if chats:
        return json.dumps([{"role": "user", "content": text}])
    if len(columns) == 2 and not prefix:
        return json.dumps({"text": text, "text_pair": "It was sent yesterday."})
    return json.dumps(prefix + text)
