"""Machines by name, and how much they hold: `8xH100`, `2xA100-40GB`, `1x24GB`, `M2-16GB`.

Figures are those of the makers' data sheets: memory as it is sold, dense products without sparsity, bandwidth of the memory.
NVIDIA: H200 (2024), H100 SXM5 and PCIe (2022), A100 (2020), L40S, L4, A10, T4, V100, and the whitepapers of Ada, Ampere and Turing for
GeForce; Apple: press notes of M1 to M4 (2020 to 2024), whose GPU shares its memory with the machine; AMD: MI300X (2023), MI250X (2021).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from burnish.core.errors import BurnishError, nearest

GIB = 2**30
SHARED = 0.75
"""Of a machine's memory that its GPU may use where both share it (Apple: recommendedMaxWorkingSetSize)."""

DRIVER = 500 * 2**20
"""What CUDA keeps on a card for a program: context and kernels, half a gigabyte (measured on an H100 by nvidia-smi: 0.5 GiB)."""

UNKNOWN_RATE = 0.0


@dataclass(frozen=True)
class Machine:
    """`devices` of `memory` bytes each. `bf16` and `fp32` are products and sums a second (0 where unknown), `bandwidth` bytes a second.
    `kind` is where it computes: cuda, mps or cpu."""

    name: str
    devices: int
    memory: int
    kind: str = "cuda"
    bf16: float = UNKNOWN_RATE
    fp32: float = UNKNOWN_RATE
    bandwidth: float = UNKNOWN_RATE

    @property
    def usable(self) -> int:
        """Bytes of a device that a program can have."""
        return int(self.memory * SHARED) if self.kind == "mps" else self.memory


def card(name: str, memory: float, bf16: float, fp32: float, bandwidth: float, kind: str = "cuda") -> Machine:
    """One device: memory in GiB, rates in 10^12 a second, bandwidth in 10^9 bytes a second."""
    return Machine(name, 1, int(memory * GIB), kind, bf16 * 1e12, fp32 * 1e12, bandwidth * 1e9)


CARDS = {
    one.name: one
    for one in (
        card("H200", 141, 989, 67, 4800),
        card("H100", 80, 989, 67, 3350),
        card("H100-PCIE", 80, 756, 51, 2000),
        card("A100", 80, 312, 19.5, 2039),
        card("A100-40GB", 40, 312, 19.5, 1555),
        card("L40S", 48, 362, 91.6, 864),
        card("L4", 24, 121, 30.3, 300),
        card("A10", 24, 125, 31.2, 600),
        card("A6000", 48, 155, 38.7, 768),
        card("V100", 32, 125, 15.7, 900),
        card("V100-16GB", 16, 125, 15.7, 900),
        card("T4", 16, 65, 8.1, 320),
        card("RTX5090", 32, 209, 104.8, 1792),
        card("RTX4090", 24, 165, 82.6, 1008),
        card("RTX4080", 16, 97, 48.7, 717),
        card("RTX4070", 12, 58, 29.1, 504),
        card("RTX3090", 24, 71, 35.6, 936),
        card("RTX3080", 10, 59, 29.8, 760),
        card("RTX3060", 12, 25, 12.7, 360),
        card("MI300X", 192, 1307, 163, 5300),
        card("MI250X", 128, 383, 47.9, 3277),
        card("M1", 8, 2.6, 2.6, 68, "mps"),
        card("M2", 8, 3.6, 3.6, 100, "mps"),
        card("M3", 8, 4.1, 4.1, 100, "mps"),
        card("M4", 16, 4.6, 4.6, 120, "mps"),
        card("M1-MAX", 32, 10.4, 10.4, 400, "mps"),
        card("M2-MAX", 32, 13.6, 13.6, 400, "mps"),
        card("M3-MAX", 36, 14.2, 14.2, 400, "mps"),
        card("M4-MAX", 36, 18.4, 18.4, 546, "mps"),
        card("M2-ULTRA", 64, 27.2, 27.2, 800, "mps"),
    )
}
"""Known devices; a size behind the name (M2-16GB, V100-32GB) is that of one with other memory."""

PATTERN = re.compile(r"(?:(?P<devices>\d+)\s*[x×*]\s*)?(?P<name>.+)", re.IGNORECASE)
SIZE = re.compile(r"(?P<size>\d+(?:\.\d+)?)-?(?:GB|GIB|G)", re.IGNORECASE)


def named(text: str) -> Machine:
    """The machine that a name means: devices x a known card, with or without its memory, or devices x a size.

    >>> named("8xH100").memory // GIB, named("2xA100-40GB").devices, named("1x24GB").memory // GIB
    (80, 2, 24)

    Raises BurnishError, with the nearest known name, for anything else.
    """
    match = PATTERN.fullmatch(text.strip())
    devices = int(match["devices"] or 1) if match else 0
    if match is None or devices < 1:
        raise unknown(text)
    name = match["name"].strip().upper().replace(" ", "-").replace("_", "-")
    for prefix in ("NVIDIA-", "GEFORCE-", "AMD-", "APPLE-"):
        name = name.removeprefix(prefix)
    name = name.replace("RTX-", "RTX")
    if alone := SIZE.fullmatch(name):
        return Machine(text.strip(), devices, size_of(alone, text))
    if name in CARDS:
        return replace(CARDS[name], name=text.strip(), devices=devices)
    card_name, _, memory = name.rpartition("-")
    sized = SIZE.fullmatch(memory)
    if sized and card_name in CARDS:
        return replace(CARDS[card_name], name=text.strip(), devices=devices, memory=size_of(sized, text))
    raise unknown(text)


def size_of(match: re.Match[str], text: str) -> int:
    """Bytes of a size. Raises BurnishError for none."""
    size = float(match["size"])
    if size <= 0:
        raise unknown(text)
    return int(size * GIB)


def unknown(text: str) -> BurnishError:
    name = re.sub(r"^\d+\s*[xX×*]\s*", "", text.strip()).upper()
    near = nearest(name, CARDS)
    return BurnishError(
        f"--machine: there is no machine `{text}`{near}{'' if near.endswith('?') else '.'} Write how many devices of which size (1x24GB, 4x80GB), or of which "
        f"card (8xH100, 2xA100-40GB, M2-16GB); known: {', '.join(CARDS)}."
    )
