"""QLoRA with Burnish and by hand (transformers, peft and bitsandbytes alone): memory of the weights, loss and gradient norm of each step.

    python benchmarks/qlora_memory.py [MODEL] [--steps 20] [--batch 8] [--quantize nf4] [--rank 8] [--lr 5e-4]

MODEL is a folder or hub id of a decoder with its tokenizer; by default a llama of 8 blocks, 512 wide (28M parameters, random weights)
with the bundled tokenizer, made for the occasion. Both take the same batches of the bundled messages, begin with the same adapters, and
use AdamW at a constant rate. Peak memory is that of the whole process, and that of Burnish's run alone. Results go to
benchmarks/results/qlora_memory.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "qlora_memory.json"


def made_llama(folder: Path) -> str:
    """A decoder large enough for its blocks to outweigh its embeddings."""
    import torch
    import transformers

    from burnish.models.spec import bundled

    tokenizer = transformers.AutoTokenizer.from_pretrained(bundled("bundled:tokenizer"))
    size = {"hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "intermediate_size": 1536, "max_position_embeddings": 256}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=True, **size, **ids))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def recipe(arguments: argparse.Namespace, model: str, run: Path) -> dict[str, Any]:
    return {
        "model": {"name": model, "quantize": arguments.quantize},
        "task": {"name": "continue", "generation": {"samples": 1, "max_new_tokens": 4}},
        "data": {"train": "bundled:messages-train", "max_length": 128},
        "method": {"name": "lora", "r": arguments.rank, "alpha": 2 * arguments.rank},
        "optimizer": {"name": "adamw", "lr": arguments.lr, "weight_decay": 0.0},
        "schedule": "constant",
        "train": {"duration": f"{arguments.steps}st", "batch_size": arguments.batch, "micro_batch": arguments.batch},
        "run": str(run),
    }


def by_hand(made: dict[str, Any]) -> list[tuple[float, float]]:
    """(loss, gradient norm) of each step, without Burnish but for the batches and the adapters' first values."""
    import peft
    import torch
    import transformers

    from burnish import build
    from burnish import recipe as recipes

    checked = recipes.load(made)
    parts = build.assemble(checked, build.gather(checked), lambda message: None)
    started = {name: p.detach().cpu() for name, p in parts.model.named_parameters() if p.requires_grad}
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    four["bnb_4bit_compute_dtype"] = torch.bfloat16 if parts.runtime.device.type == "cuda" else torch.float32
    settings = transformers.BitsAndBytesConfig(**(four if checked.model.quantize.name == "nf4" else {"load_in_8bit": True}))
    base = transformers.AutoModelForCausalLM.from_pretrained(
        checked.model.name, quantization_config=settings, dtype=torch.float32, device_map={"": parts.runtime.device.type}
    )
    base = peft.prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    layers = [name.removeprefix("base_model.model.") for name in parts.anatomy.linears]
    adapters = peft.LoraConfig(r=checked.method.r, lora_alpha=checked.method.alpha, target_modules=layers, task_type="CAUSAL_LM")
    model = peft.get_peft_model(base, adapters)
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for name, parameter in learning.items():
        parameter.data.copy_(started[name])
    optimizer = torch.optim.AdamW(learning.values(), lr=checked.optimizer.lr, weight_decay=0.0)
    order, found = build.order(parts), []
    model.train()
    for step in range(int(checked.train.duration.value)):
        batch = parts.runtime.place(parts.learner.collate(parts.examples["train"], order.batch(step), (checked.train.seed, step)))
        logits = model(**batch.inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets["labels"].flatten(), ignore_index=-100)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(learning.values(), checked.train.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        found.append((loss.item(), norm.item()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--quantize", choices=("nf4", "int8"), default="nf4")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        import burnish

        made = recipe(arguments, arguments.model or made_llama(Path(folder) / "llama"), Path(folder) / "run")
        run = burnish.train(made)
        steps = [line for line in run.folder.read_metrics() if line["kind"] == "step"]
        weights, peak = (run.folder.read("plan.json") or {})["weights"], run.summary["peak_memory"]
        hand = by_hand(made)
    print(f"weights: {weights['float32_bytes'] / 1e6:.1f} MB in float32, {weights['bytes'] / 1e6:.1f} MB in {arguments.quantize}")
    print(f"peak memory of the process with Burnish's run: {peak / 1e6:,.0f} MB\n")
    print("| step | loss | by hand | gradient norm | by hand |\n|---|---|---|---|---|")
    for line, (loss, norm) in zip(steps, hand, strict=True):
        print(f"| {line['step']} | {line['loss']:.6f} | {loss:.6f} | {line['grad_norm']:.5f} | {norm:.5f} |")
    difference = max(abs(line["loss"] - loss) / loss for line, (loss, _) in zip(steps, hand, strict=True))
    mean, median = statistics.mean(line["loss"] for line in steps), statistics.median(line["grad_norm"] for line in steps)
    print(f"\nmean loss {mean:.4f}, median gradient norm {median:.4f}; losses differ by at most {difference:.1e} of their value")
    RESULTS.parent.mkdir(exist_ok=True)
    told = {"arguments": vars(arguments), "weights": weights, "peak_memory": peak, "by_hand": hand}
    told |= {"loss": [line["loss"] for line in steps], "grad_norm": [line["grad_norm"] for line in steps], "difference": difference}
    RESULTS.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
