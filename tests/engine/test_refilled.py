"""A batch that stays full writes what `generate` writes of each prompt alone, in fewer passes through the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from test_generation import END, PROMPTS, engine, lively, model_of
from transformers import MistralConfig, MistralForCausalLM

from burnish.core.generation import Generation
from burnish.core.protocols import Written
from burnish.engine.batches import Budget
from burnish.engine.generation import Refilled, decoder_of, write
from burnish.engine.generation.decoder import Decoder
from burnish.engine.generation.draws import drawn, uniforms
from burnish.engine.generation.room import ROOM, Room
from burnish.engine.savings import Engine as Savings
from burnish.models import blocks
from burnish.models.fast.install import quicken

CPU = torch.device("cpu")
MANY = [[3 + (7 * row + 5 * place) % 37 for place in range(1 + row % 5)] for row in range(15)]


@pytest.fixture(params=["llama", "gpt2", "qwen2"])
def model(request: pytest.FixtureRequest, quick: None) -> Any:
    """Every fifth token ends a text, so that texts end early and late."""
    made = model_of(request.param).eval()
    made.generation_config.eos_token_id = [END, 5, 12, 20, 31]
    return made


def refilled(model: Any, prompts: Sequence[Sequence[int]], generation: Generation, rows: int, reading: int = 10**6) -> list[Written]:
    """With at most `rows` texts in the model."""
    decoder = decoder_of(model, generation)
    assert decoder is not None
    texts = Refilled(decoder, prompts, generation, CPU, Budget(rows, "ex"), Budget(reading))
    found: dict[int, Written] = {}
    with torch.no_grad():
        while texts.busy:
            found.update((text.index, text.written) for text in texts.step())
            assert len(texts.texts) <= rows
    return [found[index] for index in range(len(prompts))]


def alone(model: Any, prompts: Sequence[Sequence[int]], generation: Generation) -> list[Written]:
    return [write(model, [prompt], generation, CPU, lambda: None, [index])[0] for index, prompt in enumerate(prompts)]


def sizes_of(model: Any) -> list[int]:
    """The rows of each pass from now on."""
    sizes: list[int] = []
    model.register_forward_pre_hook(lambda module, args, options: sizes.append(len(options["input_ids"])), with_kwargs=True)
    return sizes


@pytest.mark.parametrize(
    "settings",
    [{}, {"repetition_penalty": 1.7}, {"temperature": 1.0}, {"temperature": 0.7, "top_p": 0.8, "repetition_penalty": 1.3}],
    ids=["greedy", "penalty", "drawn", "all"],
)
def test_texts_are_those_that_generate_writes_one_by_one(model: Any, settings: dict[str, float]) -> None:
    generation = Generation(max_new_tokens=14, **settings)
    expected = alone(model, MANY, generation)
    assert len({len(one.ids) for one in expected}) >= 3
    for rows, reading in ((5, 10**6), (15, 6), (1, 1)):
        assert refilled(model, MANY, generation, rows, reading) == expected


def test_a_text_that_ends_gives_its_place_to_the_next(model: Any) -> None:
    model.generation_config.eos_token_id = [END, 5]
    generation = Generation(max_new_tokens=40, temperature=3.0)
    sizes = sizes_of(model)
    expected = [one for at in range(0, 15, 5) for one in write(model, MANY[at : at + 5], generation, CPU, lambda: None, range(at, at + 5))]
    passes, rows = len(sizes), sum(sizes)
    del sizes[:]
    assert refilled(model, MANY, generation, 5) == expected
    assert len(sizes) < passes and sum(sizes) < 0.75 * rows


def test_a_text_may_end_at_once_or_only_at_the_limit_and_one_prompt_may_be_long(model: Any) -> None:
    long = [list(range(6, 30)), *PROMPTS]
    generation = Generation(max_new_tokens=20)
    firsts = [int(model(input_ids=torch.tensor([prompt])).logits[0, -1].argmax()) for prompt in long]
    model.generation_config.eos_token_id = [firsts[0], firsts[2]]
    found = refilled(model, long, generation, 3)
    assert found == alone(model, long, generation)
    assert found[0] == found[2] == Written([], True)
    model.generation_config.eos_token_id = None
    found = refilled(model, long, generation, 3)
    assert found == alone(model, long, generation)
    assert all(len(one.ids) == 20 and not one.ended for one in found)
    assert refilled(model, long, Generation(max_new_tokens=1), 3) == [Written(one.ids[:1], False) for one in found]


def test_a_row_that_is_over_needs_no_position_more() -> None:
    """It is computed as long as the others go on, here beyond 64 learned positions."""
    model = model_of("gpt2").eval()
    decoder = decoder_of(model, Generation())
    assert decoder is not None
    over, going_on = [7] * 66, [0] * 60 + PROMPTS[2][:6]
    with torch.no_grad():
        found = decoder.scores(torch.tensor([over, going_on]), torch.tensor([0, 60]), decoder.cache(), last=5)
        expected = model(input_ids=torch.tensor([PROMPTS[2][:6]])).logits[:, -1]
    torch.testing.assert_close(found[1:], expected)


@pytest.mark.parametrize("when", ["reading", "turning"])
def test_no_text_is_lost_where_memory_runs_out(model: Any, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one that ended at its first token, of which nobody had been told."""
    generation = Generation(max_new_tokens=6)
    expected = engine(model).generate(MANY, generation)
    model.generation_config.eos_token_id = sorted({one.ids[0] for one in expected if one.ids})
    expected = engine(model).generate(MANY, generation)
    assert any(one == Written([], True) for one in expected)
    owner, name = (Decoder, "scores") if when == "reading" else (Room, "turn")
    plain, calls = getattr(owner, name), []

    def cramped(*args: Any) -> Any:
        calls.append(1)
        if len(calls) in (1, 3):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(*args)

    monkeypatch.setattr(owner, name, cramped)
    assert engine(model).generate(MANY, generation) == expected
    assert len(calls) > 3


def test_equal_prompts_are_read_once(model: Any) -> None:
    prompts = [[9, 10, 11]] * 5 + [[8]] + [[9, 10, 11]]
    generation = Generation(max_new_tokens=10, temperature=1.0)
    expected = alone(model, prompts, generation)
    assert len({tuple(one.ids) for one in expected}) > 3
    sizes = sizes_of(model)
    assert refilled(model, prompts, generation, 7) == expected
    assert sizes[0] == 2, "two different prompts"
    assert sizes[1] > 2


def test_a_cache_grows_in_place_and_gives_what_transformers_gives() -> None:
    model = model_of("llama").eval()
    model.generation_config.eos_token_id = None
    generation = Generation(max_new_tokens=2 * ROOM + 9, temperature=1.5)
    expected = alone(model, PROMPTS[:3], generation)
    assert refilled(model, PROMPTS[:3], generation, 2) == expected
    layer, token = Room(), torch.randn(1, 2, 1, 4)
    layer.update(torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4))
    layer.update(token, token)
    place = layer.keys.data_ptr()
    for _ in range(ROOM - 1):
        layer.update(token, token)
        assert layer.keys.data_ptr() == place
    assert layer.get_seq_length() == 3 + ROOM and torch.equal(layer.keys[:, :, 3:], token.expand(1, 2, ROOM, 4))


def test_adapters_of_peft_write_too(model: Any) -> None:
    import peft

    generation = Generation(max_new_tokens=12)
    plain = alone(model, PROMPTS, generation)
    config = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    torch.manual_seed(1)
    adapted = peft.get_peft_model(model, config).eval()
    expected = alone(adapted, PROMPTS, generation)
    assert refilled(adapted, PROMPTS, generation, 3) == expected != plain


def test_a_model_on_the_fast_path_writes_the_same(model: Any) -> None:
    """Its forward then hides which inputs it takes; positions are told to it all the same."""
    generation = Generation(max_new_tokens=12)
    expected = alone(model, PROMPTS, generation)
    assert quicken(model, blocks.anatomy(model), Savings()).unpadded
    assert refilled(model, PROMPTS, generation, 3) == expected


def test_only_generate_writes_where_rows_cannot_change() -> None:
    plain = Generation()
    llama = model_of("llama").eval()
    assert decoder_of(llama, plain) is not None
    assert decoder_of(llama, Generation(beams=2)) is None
    assert decoder_of(model_of("bart").eval(), plain) is None
    llama.generation_config.min_length = 5
    assert decoder_of(llama, plain) is None, "a least length counts the columns of the batch"
    size = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    window = lively(MistralForCausalLM(MistralConfig(**size, intermediate_size=32, sliding_window=4)).eval())
    assert decoder_of(window, plain) is None, "a window's cache drops columns"
    generation = Generation(max_new_tokens=9, temperature=1.0)
    assert engine(window).generate(PROMPTS, generation) == alone(window, PROMPTS, generation)


def test_progress_moves_as_texts_end(model: Any) -> None:
    told: list[int] = []
    checks: list[int] = []
    generation = Generation(max_new_tokens=14, temperature=3.0)
    engine(model, tell=lambda what, done, total: told.append(done), check=lambda: checks.append(1)).generate(MANY, generation)
    assert told[0] == 0 and told[-1] == len(MANY) and told == sorted(set(told)) and len(told) > 4
    assert len(checks) >= 14, "at every token"


def test_tokens_are_drawn_with_their_probabilities() -> None:
    scores = torch.tensor([0.0, float("-inf"), 1.0, -2.0, float("-inf")])
    number = 40_000
    uniform = torch.from_numpy(np.concatenate([uniforms(3, index, 400) for index in range(number // 400)]))
    counts = torch.bincount(drawn(scores.expand(number, 5), uniform), minlength=5).double()
    expected = torch.softmax(scores.double(), 0) * number
    assert counts[1] == counts[4] == 0
    seen = expected > 0
    chi_square = ((counts - expected)[seen] ** 2 / expected[seen]).sum()
    assert chi_square < 13.8, "two degrees of freedom: more only once in a thousand"
    edge = torch.tensor([0.0, np.nextafter(np.float32(1), np.float32(0))])
    first = torch.tensor([float("-inf"), 0.0, 0.0, float("-inf")])
    assert drawn(first.expand(2, 4), edge).tolist() == [1, 2], "never one without probability"


def test_a_texts_numbers_are_its_own() -> None:
    assert np.array_equal(uniforms(0, 4, 9)[:5], uniforms(0, 4, 5))
    assert len({float(uniforms(seed, index, 1)[0]) for seed in range(3) for index in range(3)}) == 9
