"""Texts written in a batch are those written one by one: padded rightly, ended rightly, seeded, and whatever fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from burnish.core.generation import Generation
from burnish.engine.inference import Engine
from burnish.engine.runtime import Runtime
from burnish.engine.signals import StopRequested

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15], [5, 6], [2, 2, 9], [30, 31, 32, 33]]
END = 2
FAMILIES = ("llama", "gpt2", "qwen2", "bart")


def lively(model: Any) -> Any:
    """Larger random weights, so that what is written depends on every token read."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    model.generation_config.eos_token_id = END
    model.generation_config.pad_token_id = END
    return model


def model_of(family: str) -> Any:
    torch.manual_seed(4)
    size = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": END, "pad_token_id": END}
    if family == "llama":
        small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
        return lively(LlamaForCausalLM(LlamaConfig(**size, **small)))
    if family == "qwen2":
        small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32}
        return lively(Qwen2ForCausalLM(Qwen2Config(**size, **small)))
    if family == "gpt2":
        return lively(GPT2LMHeadModel(GPT2Config(**size, n_embd=16, n_layer=2, n_head=2, n_positions=64)))
    small = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    return lively(
        BartForConditionalGeneration(BartConfig(**size, **small, encoder_ffn_dim=32, decoder_ffn_dim=32, decoder_start_token_id=1))
    )


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, quick: None) -> Any:
    return model_of(request.param).eval()


def engine(model: Any, **options: Any) -> Engine:
    return Engine(model, None, Runtime("cpu"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_writes_what_each_prompt_alone_would(model: Any, beams: int) -> None:
    generation = Generation(max_new_tokens=12, beams=beams)
    together = engine(model).generate(PROMPTS, generation)
    assert len({tuple(one.ids) for one in together}) > 3
    for prompt, found in zip(PROMPTS, together, strict=True):
        alone = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), **generation.settings())[0].tolist()
        written = alone[1:] if model.config.is_encoder_decoder else alone[len(prompt) :]
        ended = END in written
        assert found.ended == ended
        assert list(found.ids) == (written[: written.index(END)] if ended else written)


def test_a_text_ends_at_any_end_token_and_its_own_is_not_part_of_it() -> None:
    model = model_of("llama").eval()
    texts = [list(one.ids) for one in engine(model).generate(PROMPTS, Generation(max_new_tokens=12))]
    at = max(range(len(PROMPTS)), key=lambda index: len(set(texts[index])))
    other = texts[at][-1]
    model.generation_config.eos_token_id = [END, other]
    found = engine(model).generate([PROMPTS[at]], Generation(max_new_tokens=12))[0]
    assert found.ended and list(found.ids) == texts[at][: texts[at].index(other)] != []


def test_drawn_texts_are_a_function_of_the_seed(model: Any) -> None:
    def drawn(seed: int) -> list[list[int]]:
        torch.manual_seed(seed + 17)  # whatever was drawn before
        return [list(one.ids) for one in engine(model).generate(PROMPTS, Generation(max_new_tokens=12, temperature=1.0, seed=seed))]

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)
    greedy = [list(one.ids) for one in engine(model).generate(PROMPTS, Generation(max_new_tokens=12))]
    assert drawn(0) != greedy


@pytest.mark.parametrize("after", [0, 4])
def test_memory_that_runs_out_halves_the_batch_and_changes_nothing(model: Any, after: int) -> None:
    """At once, and when texts are under way: those go on from what is written."""
    generation = Generation(max_new_tokens=12, temperature=0.8)
    expected = engine(model).generate(PROMPTS, generation)
    sizes: list[int] = []

    def cramped(module: Any, args: Any, options: dict[str, Any]) -> None:
        sizes.append(len(options["decoder_input_ids" if model.config.is_encoder_decoder else "input_ids"]))
        if sizes[-1] > 2 and len(sizes) > after:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.register_forward_pre_hook(cramped, with_kwargs=True)
    assert engine(model).generate(PROMPTS, generation) == expected
    assert max(sizes[: after + 1]) > 2 and 0 < max(sizes[-10:]) <= 2


def test_a_single_text_that_does_not_fit_is_told(model: Any) -> None:
    def cramped(module: Any, args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    model.register_forward_pre_hook(cramped)
    with pytest.raises(torch.OutOfMemoryError):
        engine(model).generate(PROMPTS, Generation(max_new_tokens=3))


def test_a_drawn_text_does_not_depend_on_its_neighbours(model: Any) -> None:
    generation = Generation(max_new_tokens=12, temperature=1.0)
    together = engine(model).generate(PROMPTS, generation)
    assert len({tuple(one.ids) for one in together}) > 3
    others = [[7, 7, 7, 7], *PROMPTS[1:]]
    assert engine(model).generate(others, generation)[1:] == together[1:]
    assert engine(model).generate(PROMPTS[:2], generation) == together[:2]
    alike = engine(model).generate([PROMPTS[0]] * 4, generation)
    assert alike[0] == together[0] and len({tuple(one.ids) for one in alike}) > 1


def test_training_is_left_as_it_was(model: Any) -> None:
    model.train()
    state = torch.get_rng_state()
    engine(model).generate(PROMPTS, Generation(max_new_tokens=4, temperature=1.0))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())


def test_a_request_to_stop_is_heard_within_a_text(model: Any) -> None:
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 4:
            raise StopRequested(2)

    with pytest.raises(StopRequested):
        engine(model, check=check).generate(PROMPTS, Generation(max_new_tokens=30))


def test_progress_is_told(model: Any) -> None:
    told: list[tuple[str, int, int]] = []
    engine(model, tell=lambda *what: told.append(what)).generate(PROMPTS, Generation(max_new_tokens=3))
    assert told[0] == ("texts written", 0, 6) and told[-1] == ("texts written", 6, 6)


def test_no_prompts() -> None:
    assert engine(model_of("llama")).generate([], Generation()) == []


def test_the_pretrained_decoder_tells_a_story() -> None:
    """Real weights, where they are at hand: greedy, batched and left-padded, as one by one."""
    folder = Path(__file__).parents[3] / "shared" / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip("the real weights are not here")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    prompts = [tokenizer(text)["input_ids"] for text in ("Once upon a time", "Lily and Ben went to the park. They", "The dog")]
    generation = Generation(max_new_tokens=30)
    together = engine(model).generate(prompts, generation)
    alone = [engine(model).generate([prompt], generation)[0] for prompt in prompts]
    assert together == alone
