"""Optimizers of torch, each with its formula. g is the gradient of a weight w, lr its learning rate, t the number of the update.

Weight decay comes in two forms. *Decoupled* (adamw, adafactor, lion): w shrinks by lr * weight_decay * w beside the update, whatever
the gradient. *Coupled* (adam, sgd, rmsprop): weight_decay * w is added to the gradient, so that it passes through momentum and scaling
like any gradient; an L2 penalty, in other words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from burnish.core.registry import register
from burnish.core.spec import Spec

if TYPE_CHECKING:
    import torch

Beta = Annotated[float, Field(ge=0, lt=1)]


@register("optimizer")
class AdamW(Spec):
    """Adam with decoupled weight decay, in torch's fused kernel.

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  w = w - lr (m^ / (sqrt(v^) + eps) + weight_decay w).
    Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", arXiv:1711.05101, algorithm 2.
    """

    name: Literal["adamw"] = "adamw"

    by_weight: ClassVar[bool] = True

    decoupled: ClassVar[bool] = True

    lr: float = Field(default=5e-5, gt=0)
    """Peak learning rate; 1e-5 to 1e-4 for full fine-tuning, 1e-4 to 1e-3 for LoRA or a head alone."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay of the running mean and of the running square of the gradient."""

    eps: float = Field(default=1e-8, gt=0)
    """Added to the denominator; 1e-8 to 1e-6."""

    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled decay of weights, never of biases and norms; 0 to 0.1."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, fused=True)


@register("optimizer")
class Adam(Spec):
    """Adam with coupled weight decay (an L2 penalty that the scaling weakens where gradients are large); adamw is mostly the better one.

    g = g + weight_decay w;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  w = w - lr m^ / (sqrt(v^) + eps).
    Kingma and Ba 2015, "Adam", arXiv:1412.6980, algorithm 1.
    """

    name: Literal["adam"] = "adam"

    by_weight: ClassVar[bool] = True

    decoupled: ClassVar[bool] = False

    lr: float = Field(default=5e-5, gt=0)
    """Peak learning rate; 1e-5 to 1e-4 for full fine-tuning."""

    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """Decay of the running mean and of the running square of the gradient."""

    eps: float = Field(default=1e-8, gt=0)
    """Added to the denominator; 1e-8 to 1e-6."""

    weight_decay: float = Field(default=0.0, ge=0)
    """Coupled decay of weights, never of biases and norms; 0 to 1e-2."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.Adam(groups, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, fused=True)


@register("optimizer")
class SGD(Spec):
    """Stochastic gradient descent with momentum: one value of state a weight, half of Adam's, and a learning rate that has to be searched.

    g = g + weight_decay w;  m = momentum m + g;  w = w - lr m, or w - lr (g + momentum m) with `nesterov`.
    Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning".
    """

    name: Literal["sgd"] = "sgd"

    by_weight: ClassVar[bool] = True

    decoupled: ClassVar[bool] = False

    lr: float = Field(default=1e-2, gt=0)
    """Peak learning rate; 1e-3 to 1e-1, for nothing scales the gradient."""

    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Share of the former update that is kept; 0.9 to 0.99, 0 for plain gradient descent."""

    nesterov: bool = False
    """Look ahead along the momentum before stepping; needs momentum."""

    weight_decay: float = Field(default=0.0, ge=0)
    """Coupled decay of weights, never of biases and norms; 0 to 1e-3."""

    @model_validator(mode="after")
    def looks_along_momentum(self) -> SGD:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov looks ahead along the momentum: set momentum, such as 0.9, or nesterov: false")
        return self

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.SGD(
            groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay, fused=True
        )


@register("optimizer")
class RMSprop(Spec):
    """The gradient over the root of its running square: Adam without the running mean and without bias correction.

    g = g + weight_decay w;  v = alpha v + (1 - alpha) g^2;  u = g / (sqrt(v) + eps), or g / (sqrt(v - mean(g)^2) + eps) where `centered`;
    m = momentum m + u;  w = w - lr m. Tieleman and Hinton 2012, lecture 6.5; centered: Graves 2013, arXiv:1308.0850, eq. 38 to 45.
    """

    name: Literal["rmsprop"] = "rmsprop"

    by_weight: ClassVar[bool] = True

    decoupled: ClassVar[bool] = False

    lr: float = Field(default=5e-5, gt=0)
    """Peak learning rate; 1e-5 to 1e-3."""

    alpha: Beta = 0.99
    """Decay of the running square of the gradient; 0.9 to 0.999."""

    momentum: float = Field(default=0.0, ge=0, lt=1)
    """Share of the former update that is kept; 0 to 0.9."""

    centered: bool = False
    """Divide by the running standard deviation and not by the root of the running square; costs one more value a weight."""

    eps: float = Field(default=1e-8, gt=0)
    """Added to the denominator; 1e-8 to 1e-6."""

    weight_decay: float = Field(default=0.0, ge=0)
    """Coupled decay of weights, never of biases and norms; 0 to 1e-3."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.RMSprop(
            groups,
            lr=self.lr,
            alpha=self.alpha,
            momentum=self.momentum,
            centered=self.centered,
            eps=self.eps,
            weight_decay=self.weight_decay,
        )


@register("optimizer")
class Adafactor(Spec):
    """Adam's scaling from the sums of squares over rows and over columns alone: n + m values of state for an n x m matrix, and no mean.

    b = 1 - t^-decay;  R, C = running means (b) of g^2 over columns, over rows;  v = R C / mean(R);  u = g / sqrt(v);
    w = w - a u / max(1, rms(u) / clip),  a = max(floor, rms(w)) min(lr, 1 / sqrt(t)).
    So `lr` is no distance but a share: an update moves a matrix by about lr of its own size, 1e-2 being 1%, and the schedule's factor
    falls on it as on any rate. Shazeer and Stern 2018, arXiv:1804.04235, algorithm 5; torch's own. T5's usual optimizer.
    """

    name: Literal["adafactor"] = "adafactor"

    by_weight: ClassVar[bool] = False

    decoupled: ClassVar[bool] = True

    lr: float = Field(default=1e-3, gt=0)
    """Largest relative step, a share of a weight matrix's own size; 3e-4 to 1e-2."""

    decay: float = Field(default=0.8, gt=0, le=1)
    """How fast the running squares become long-lived, as an exponent of the number of updates; 0.8 in the paper."""

    clip: float = Field(default=1.0, ge=1)
    """An update's root mean square is scaled down to this where it is larger; 1 to 2."""

    floor: float = Field(default=1e-3, gt=0)
    """A weight matrix counts as at least this large, so that one of zeros can move; 1e-3."""

    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled decay of weights, never of biases and norms; 0 to 0.1."""

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        import torch

        return torch.optim.Adafactor(
            groups, lr=self.lr, beta2_decay=-self.decay, eps=(None, self.floor), d=self.clip, weight_decay=self.weight_decay
        )
