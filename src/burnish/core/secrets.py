"""Keeps credentials out of whatever a run leaves behind: recipes, recorded commands, messages, cards.

Keys and passwords come from the environment alone. A recipe that holds one is refused; a text that happens to hold one is redacted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "***"
LOGIN = re.compile(r"(?P<scheme>:/{1,2})[^\s/]+@")
"""`user:password@` of an address, also of one that was taken for a path and has lost a slash."""
SECRET_NAME = re.compile(
    r"(^|[_.-])(api_?key|access_?key|private_?key|secret(_?key)?|password|passwd|credentials?|(access|auth|hf|api|bearer)_?token)$|^token$",
    re.I,
)
ASSIGNED = re.compile(
    r"(?P<name>[\w.-]*(?:api_?key|access_?key|private_?key|secret(?:_?key)?|password|passwd|credentials?|token))"
    r"(?P<sign>[\"']?\s*[:=]\s*[\"']?|\s+)(?P<value>[^\s,;&'\"{}\[\]]+)",
    re.I,
)
SECRET_VARIABLE = re.compile(r"KEY|TOKEN(?!IZ)|PASSWORD|PASSWD|SECRET|CREDENTIAL", re.I)
SHAPED = re.compile(
    r"\b(hf_[A-Za-z0-9]{30,}|sk-[\w-]{20,}|gh[opsu]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|xox[abp]-[\w-]{10,}|AKIA[0-9A-Z]{16})\b"
)
"""Keys that are known by their form: of Hugging Face, OpenAI, GitHub, GitLab, Slack, AWS."""
PATH = re.compile(r"(?<![\w:/.~])~?/[^\s/]+/[^\s'\"]*")
SHORTEST = 8
"""Values of the environment with fewer characters than this may stand in a text by chance."""


def redacted(text: str) -> str:
    """The text with `***` in the place of logins in addresses, of what is assigned to names such as api_key, of keys of a known form,
    and of every secret that the environment holds.

    >>> redacted("burnish train a.yaml --storage postgresql://ada:lovelace@db/runs")
    'burnish train a.yaml --storage postgresql://***@db/runs'
    """
    return ASSIGNED.sub(lambda found: hidden(found) if concerns_secret(found) else found[0], masked(text))


def masked(text: str) -> str:
    """The same for sentences, in which a word may stand after `token:` without being one."""
    for value in held().values():
        text = text.replace(value, HIDDEN)
    return SHAPED.sub(HIDDEN, LOGIN.sub(rf"\g<scheme>{HIDDEN}@", text))


def held() -> dict[str, str]:
    """The secrets of the environment by name, longest first; paths are none."""
    found = {
        name: value
        for name, value in os.environ.items()
        if SECRET_VARIABLE.search(name) and len(value) >= SHORTEST and not value.startswith(("/", "~", "."))
    }
    return dict(sorted(found.items(), key=lambda entry: -len(entry[1])))


def concerns_secret(found: re.Match[str]) -> bool:
    """Whether what is assigned is a secret: after `--password`, or `=` or `:`, but not after a word of a sentence."""
    return bool(found["sign"].strip()) or found["name"].startswith("-")


def hidden(found: re.Match[str]) -> str:
    return f"{found['name']}{found['sign']}{HIDDEN}"


def secret_faults(content: Any) -> list[str]:
    """What of a recipe, as it was read, is a secret: a sentence for each, with its dotted key and without its value."""
    found, known = [], held()
    for key, value in leaves(content):
        if not isinstance(value, str) or not value:
            continue
        name = next((name for name, secret in known.items() if secret in value), "")
        if SECRET_NAME.search(key.rpartition(".")[2]):
            found.append(
                f"`{key}` is a secret, and a recipe is copied into the folder of its run: take it out, and put it into the environment "
                "(WANDB_API_KEY, HF_TOKEN, MLFLOW_TRACKING_PASSWORD, ...)"
            )
        elif LOGIN.search(value) or any("=" in found[0] for found in ASSIGNED.finditer(value) if "://" in value):
            found.append(
                f"`{key}` is an address with a password or key in it, and a recipe is copied into the folder of its run: leave it out of "
                "the address, and put it into the environment (MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, PGPASSWORD, ...)"
            )
        elif name or SHAPED.search(value):
            found.append(
                f"`{key}` holds {f'the value of {name}, a secret of the environment' if name else 'what looks like a key'}, and a recipe is "
                "copied into the folder of its run: take it out of the recipe, and leave it to the environment"
            )
    return found


def leaves(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything in a tree that is no mapping and no list."""
    if isinstance(content, Mapping):
        for name, value in content.items():
            yield from leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from leaves(value, f"{key}.{number}")
    else:
        yield key, content


def without_folders(content: Any) -> Any:
    """The same tree with absolute paths cut down to the name of the file or folder: what stands above it is nobody's business."""
    if isinstance(content, Mapping):
        return {key: without_folders(value) for key, value in content.items()}
    if isinstance(content, list):
        return [without_folders(value) for value in content]
    if isinstance(content, str):
        whole = content.startswith("/") and "://" not in content  # a path may hold spaces, within a sentence it ends at one
        return name_of(content) if whole else PATH.sub(lambda found: name_of(found[0]), content)
    return content


def name_of(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
