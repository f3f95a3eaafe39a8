"""The recipe's side of quantisation: pretrained weights held in 4 or 8 bits, so that a model fits into a quarter of the memory."""

from __future__ import annotations

from typing import Literal

from burnish.core.packages import lacking
from burnish.core.spec import Spec

PACKAGES = ("bitsandbytes", "accelerate")


class Quantize(Spec):
    """Holds the weights of the blocks' linear layers in few bits; embeddings, norms, biases and the head stay in float32.

    nf4: each 64 weights share a scale a, w ~ a q[i] with q the 16 quantiles of a normal distribution (QLoRA, Dettmers et al. 2023,
    arXiv:2305.14314, eq. 4): 4.5 bits a weight, 4.13 with `double`. For training large models on little memory.
    int8: x W ~ (sx sw / 127^2) round(127 x / sx) round(127 W / sw), a scale for each row of x and of W, and columns of x with a value
    over 6 in 16 bits (LLM.int8(), Dettmers et al. 2022, arXiv:2208.07339): closer than nf4. Which columns those are depends on
    what goes through the model together, so that another micro-batch changes results by as much as int8 rounds. (On a CPU, bitsandbytes
    rounds W alone while training, and x too in evaluation.)
    The weights stay as they are: a method that hangs something new into the model (lora) or trains the head has to learn.
    """

    name: Literal["nf4", "int8"]
    """Number format: nf4 (4 bits, to train with lora) or int8 (8 bits, closer to the weights as they were)."""

    double: bool = True
    """Whether the scales of nf4 are quantised in turn (0.37 bits a weight less); hardly changes results."""

    compute: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format in which nf4 weights are multiplied; auto is bfloat16 on GPUs that have it and float32 elsewhere."""

    def fault(self) -> str | None:
        """What is wrong with these settings, or missing on this machine to follow them."""
        if self.name == "int8" and (not self.double or self.compute != "auto"):
            return "`quantize`: int8 has no `double` and no `compute`, these are settings of nf4: leave them out"
        missing = lacking(*PACKAGES)
        if missing:
            return f"`quantize` needs {' and '.join(missing)}: pip install 'burnish[quantize]'"
        return None
