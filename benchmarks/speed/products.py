"""The machine's own limit: the matrix products that a step cannot do without, and nothing else.

For every linear layer that all tokens go through, of weight W (M, K), and the n tokens x (n, K) of a mean batch, without padding:
y = x W^T, and in backward dx = dy W where something below learns, and dW = dy^T x where W learns: 6 n M K operations in all where both do.
Attention's own products (a fifth of these at 512 tokens, nearly nothing at 20) are left out.
"""

from __future__ import annotations

from material import Material
from turns import Seat


def multiply(seat: Seat, material: Material) -> None:
    """As many products a turn as the steps of the others hold, for as many tokens."""
    import torch

    tokens = round(material.tokens)
    torch.manual_seed(0)
    weights = [torch.randn(product.shape) for product in material.products]
    sides = {side for product in material.products for side in product.shape}
    hidden = {side: torch.randn(tokens, side) for side in sides}
    steps = len(material.plain) // material.batch_size
    seat.ready(steps)
    for _ in range(steps):
        for weight in weights:
            torch.mm(hidden[weight.shape[1]], weight.T)
        for weight, product in zip(reversed(weights), reversed(material.products), strict=True):
            if product.of_input:
                torch.mm(hidden[weight.shape[0]], weight)
            if product.of_weight:
                torch.mm(hidden[weight.shape[0]].T, hidden[weight.shape[1]])
        seat.stepped(material.batch_size, tokens)


def operations(material: Material) -> int:
    """Floating-point operations of these products for one token."""
    return sum(2 * product.shape[0] * product.shape[1] * (1 + product.of_input + product.of_weight) for product in material.products)
