"""The recipe's `data.augment` section."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import Field

from burnish.core.spec import Choice, Spec
from burnish.data.augment import easy, paraphrase, translation  # noqa: F401  (they register what `steps` may name)
from burnish.data.augment.material import Drawn, Material


class Augment(Spec):
    """Training rows in other words, drawn anew each time that they are learned from; validation and test rows stay as they are.

    Of a row that is changed, one of the steps is taken (Wei and Zou 2019, arXiv:1901.11196), the first in a drawn order that finds something
    to change. What is learned stays right: entities and answers keep their words, tags and places go with them. A row that is read in
    several windows is not changed.
    """

    steps: list[Annotated[Any, Choice("augmentation")]] = Field(min_length=1)
    """What may be done to a row: synonyms, insert, swap, delete, punctuate, back_translation or paraphrase, each a name or {name: ..., ...}."""

    share: float = Field(default=0.5, gt=0, le=1)
    """Share of the rows of a step that are changed; 0.3 to 0.8."""

    keep: list[str] = []
    """Further words that are never changed, such as those that a label hangs on, or negations of another language than English."""

    seed: int = Field(default=0, ge=0)
    """Seed of what is drawn, together with train.seed, step and row."""

    def fault(self, word_for_word: bool) -> str | None:
        """Why a task whose words each have a tag cannot be trained so, or None."""
        wrong = [step.name for step in self.steps if word_for_word and not step.word_for_word]
        if not wrong:
            return None
        return (
            f"{', '.join(wrong)} would leave words without a tag, or tags without a word: with plain tags each word has one of its own, "
            "and only synonyms replace word for word"
        )

    @property
    def pure(self) -> bool:
        """Whether rows may be reworded in a thread beside training: no step computes with torch, or draws from generators that are shared."""
        return all(step.pure for step in self.steps)

    def build(self, texts: Callable[[], Sequence[str]], device: str, tell: Callable[[str, int, int], None]) -> list[Drawn]:
        """The steps, ready to be taken. Raises DataError where one lacks something."""
        material = Material(texts, frozenset(word.lower() for word in self.keep), self.seed, device, tell)
        return [step.build(material) for step in self.steps]

    def placed(self, folder: Callable[[str], str]) -> Augment:
        """The same with the folders of models made absolute."""
        steps = [
            step.model_copy(update={"there": folder(step.there), "back": folder(step.back)})
            if isinstance(step, translation.BackTranslation)
            else step
            for step in self.steps
        ]
        return self.model_copy(update={"steps": steps})

    def told(self) -> str:
        """What is done to the rows, in a sentence for the head of a run."""
        return f"training rows in other words: {self.share:.0%} of each step, by {', '.join(step.name for step in self.steps)}"
