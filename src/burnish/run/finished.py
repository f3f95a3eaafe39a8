"""A finished run: its numbers, and its model for use."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

from burnish import build
from burnish.core.errors import DataError, RunError
from burnish.core.evaluation import Evaluation
from burnish.core.protocols import Learner, Row
from burnish.core.rundir import RunFolder
from burnish.data import audit, sources
from burnish.data.spec import held_out
from burnish.engine.inference import Engine
from burnish.engine.runtime import Runtime
from burnish.models.blocks import anatomy
from burnish.models.fast.install import Fast, quicken
from burnish.models.fast.prepacked import prepack
from burnish.models.load import quiet, reopened, told
from burnish.models.quantize import Quantize
from burnish.recipe import Recipe
from burnish.recipe import load as load_recipe
from burnish.run import card

Text = str | Sequence[str] | Mapping[str, Any]


def load(path: str | Path, quantize: Literal["nf4", "int8"] | None = None) -> Run:
    """The run in a folder, its model held in few bits where `quantize` says so.

    Raises RunError where there is none, where it has not been finished, or where its weights cannot be quantised.
    """
    run = Run(RunFolder.open(path), Quantize(name=quantize) if quantize else None)
    if not run.folder.model.is_dir():
        raise RunError(f"{path} has no model yet: the run is not finished. Go on with: burnish resume {path}")
    run.require_quantizable()
    return run


class Run:
    """What a run left. The model is loaded when it is first needed.

    >>> run = burnish.load("runs/messages-1")        # doctest: +SKIP
    >>> run.predict(["where is my parcel?"])         # doctest: +SKIP
    [{'label': 'delivery', 'score': 0.97, 'probabilities': {...}}]
    """

    def __init__(self, folder: RunFolder, quantize: Quantize | None = None) -> None:
        self.folder, self.quantize = folder, quantize

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def summary(self) -> dict[str, Any]:
        """Time, speed, FLOPs, mean loss, memory: summary.json."""
        return self.folder.read("summary.json") or {}

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Metrics of the kept weights by part of the data, such as `run.metrics["test"]["accuracy"]`; `before` is before training,
        `seen` the first training rows where there are no others."""
        found = {part: self.folder.read(f"evaluations/{part}.json") for part in ("before", "seen", *build.WATCHED)}
        return {part: content["metrics"] for part, content in found.items() if content}

    def require_quantizable(self) -> None:
        """Raises RunError where the weights are to be quantised and cannot be."""
        if self.quantize is None:
            return
        fault = self.quantize.fault()
        method = self.recipe.method
        if self.quantize.name not in method.opens_quantized:
            fault = (
                f"what method={method.name} learned has to compute with the weights themselves, which {self.quantize.name} does not bear"
            )
        if self.recipe.model.quantize is not None:
            fault = f"its weights are held in {self.recipe.model.quantize.name} already, as its recipe says"
        if fault is not None:
            raise RunError(f"{self.path} cannot be opened in {self.quantize.name}: {fault}.")

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe. Its data files need not be there any more."""
        import yaml

        return Recipe.model_validate(yaml.safe_load(self.folder.recipe.read_text(encoding="utf-8")))

    @cached_property
    def learner(self) -> Learner:
        return self.recipe.task.bind([], [], self.tokenizer)

    @cached_property
    def runtime(self) -> Runtime:
        """In full precision, as transformers would run the model."""
        return Runtime("cpu" if self.recipe.train.device == "cpu" else "auto")

    @cached_property
    def tokenizer(self) -> Any:
        import transformers

        with told(self.recipe.model.model_copy(update={"name": str(self.folder.model)}), "tokenizer"):
            return transformers.AutoTokenizer.from_pretrained(self.folder.model)

    @cached_property
    def model(self) -> Any:
        """The trained model, opened by the method that left it."""
        with quiet():
            model = self.opened_by(self.recipe.method.open)
        return model.to(self.runtime.device).eval()

    def opened_by(self, opening: Callable[[Path, Callable[[Path], Any]], Any]) -> Any:
        """What `opening` makes of the folder of the model, given transformers' way to open folders of whole weights."""
        import transformers

        spec = self.recipe.model.model_copy(update={"name": str(self.folder.model)})
        with told(spec, "model"), quiet():
            auto = getattr(transformers, self.learner.auto_class)
            quantize = self.quantize or spec.quantize
            load = partial(
                reopened, auto=auto, quantize=quantize, device=self.runtime.device.type, trust_remote_code=spec.trust_remote_code
            )
            return opening(self.folder.model, load)

    def engine(self) -> Engine:
        return Engine(self.model, self.learner, self.runtime, passing=self.fast.passage.of)

    @cached_property
    def fast(self) -> Fast:
        """The model goes packed, as in training, as far as it can, its weights laid out for the CPU's products."""
        if self.recipe.engine.prepacked:
            prepack(self.model)
        inner = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        return quicken(self.model, anatomy(inner), self.recipe.engine, self.recipe.method.positions)

    def predict(self, texts: Text | Sequence[Text]) -> list[dict[str, Any]]:
        """A prediction for each text, in order: what the task gives.

        A text is a string; for pairs a (first, second) tuple; or a mapping with the task's columns.
        """
        many = [texts] if isinstance(texts, (str, Mapping)) else list(texts)
        columns = self.recipe.task.columns(False)
        return self.predict_rows([Row(as_columns(text, columns), "the given texts", number) for number, text in enumerate(many, start=1)])

    def predict_rows(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """A prediction for each row. Raises DataError naming the rows that cannot be read."""
        if not rows:
            return []
        audit.require_columns(rows, self.recipe.task.columns(False))
        audit.usable(rows, lambda row: self.recipe.task.fault(row, False), drop=False)
        return self.learner.predict(self.engine(), rows)

    def evaluate(self, part: str = "validation", source: str | Path | None = None) -> Evaluation:
        """Measures the model on a part of the recipe's data, or on the labelled rows of `source`, and keeps the result.

        Raises DataError where the recipe has no such part.
        """
        began = time.monotonic()
        name = part if source is None else f"of-{Path(source).name.partition('.')[0].replace(':', '-')}"
        name += f"-{self.quantize.name}" if self.quantize else ""  # beside what the weights as they were trained come to
        rows = self.rows(part) if source is None else build.usable_rows(self.recipe, str(source), [])
        examples, rows = build.encoded(self.recipe, self.learner, rows, lambda message: None, lambda what, done, total: None)
        evaluation = self.learner.evaluate(self.engine(), examples, rows)
        keep_evaluation(self.folder, name, evaluation, self.summary.get("kept_step", 0), time.monotonic() - began)
        if part == "test" and source is None:
            self.record_test(rows, len(examples), sum(examples.cut.values()))
        if source is None and self.quantize is None:
            card.write(self.folder, self.recipe, self.learner.auto_class, self.summary)
        return evaluation

    def record_test(self, rows: Sequence[Row], examples: int, truncated: int) -> None:
        """Enters the test rows into data.json, where the run was trained with them closed: what they are, and whether they stood in training."""
        source, data = self.recipe.data.test, self.folder.read("data.json")
        of_file = held_out(source, 1) is None
        facts = {"source": source, "sha256": sources.fingerprint(str(source))} if of_file else dict(data["parts"]["test"])
        data["parts"]["test"] = {**facts, "rows": len(rows), "examples": examples, "truncated": truncated}
        if data["labels"] is not None:
            data["labels"]["test"] = dict(sorted(Counter(str(self.recipe.task.stratum(row)) for row in rows).items()))
        warning = audit.overlap_warning(rows, self.rows("train"), self.recipe.task.columns(False), "test")
        if warning is not None and warning not in data["warnings"]:
            data["warnings"].append(warning)
        self.folder.write("data.json", data)

    def rows(self, part: str) -> list[Row]:
        """The rows of a part, read again from the files that the recipe names."""
        recipe = load_recipe(self.folder.recipe)
        if getattr(recipe.data, part, None) is None:
            raise DataError(f"the recipe of {self.path} has no {part} rows: name a file to evaluate on.")
        rows = build.gather(recipe).rows.get(part)
        return rows if rows is not None else build.usable_rows(recipe, str(recipe.data.test), [])


def as_columns(text: Text, columns: Sequence[str]) -> dict[str, Any]:
    if isinstance(text, Mapping):
        return dict(text)
    values = [text] if isinstance(text, str) else list(text)
    if len(values) != len(columns):
        raise DataError(f"{len(columns)} texts are expected for each row ({', '.join(columns)}), got {len(values)}.")
    return dict(zip(columns, values, strict=True))


def keep_evaluation(folder: RunFolder, part: str, evaluation: Evaluation, step: int, seconds: float) -> None:
    """Writes an evaluation and its predictions into the run."""
    facts = {"part": part, "rows": len(evaluation.predictions), "step": step, "seconds": seconds}
    folder.write(f"evaluations/{part}.json", evaluation.to_json(**facts))
    folder.write_lines(f"evaluations/{part}.predictions.jsonl", evaluation.predictions)
