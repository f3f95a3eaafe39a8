"""What is taken for a secret, and what is left alone."""

from __future__ import annotations

import pytest

from burnish.core.secrets import masked, redacted, secret_faults, without_folders

PLANTED = "hunter2-of-old"


@pytest.mark.parametrize(
    "text",
    [
        f"burnish sweep a.yaml --storage postgresql://ada:{PLANTED}@db.example/runs",
        f"burnish train a.yaml track.api_key={PLANTED}",
        f"burnish train a.yaml 'track=[{{name: wandb, api_key: {PLANTED}}}]'",
        f"curl --password {PLANTED} https://example.org",
        f"WANDB_API_KEY={PLANTED} burnish train a.yaml",
        f"https://example.org/?access_token={PLANTED}&part=1",
    ],
)
def test_secrets_are_hidden_and_the_rest_stays(text: str) -> None:
    assert PLANTED not in redacted(text)
    assert redacted(text).split()[0].split("=")[0].split("?")[0] == text.split()[0].split("=")[0].split("?")[0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https:/ada:{PLANTED}@example.org/a.csv does not exist", "https:/***@example.org/a.csv does not exist"),
        (f"https://ada:p@{PLANTED}@example.org/a.csv", "https://***@example.org/a.csv"),
        (f"sent by hf_{'Ab1' * 11}.", "sent by ***."),
    ],
)
def test_what_is_known_by_its_form_is_hidden(text: str, shown: str) -> None:
    assert redacted(text) == masked(text) == shown


def test_what_the_environment_holds_is_hidden_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", PLANTED)
    monkeypatch.setenv("SHORT_KEY", "ab")
    assert redacted(f"refused for {PLANTED}: able to retry") == "refused for ***: able to retry"


@pytest.mark.parametrize(
    "text",
    [
        "burnish train recipes/chat.yaml task.generation.max_new_tokens=80 method.virtual_tokens=8",
        "burnish train a.yaml model=new:llama model.tokenizer=bundled:tokenizer",
        "the token that ends it is not supervised",
        "mail ada@example.org, see file:///data/a.csv and https://example.org/a@b",
    ],
)
def test_what_only_looks_like_one_is_left_alone(text: str) -> None:
    assert redacted(text) == text
    assert secret_faults({"note": text}) == []


def test_a_recipe_with_secrets_is_told_by_key_and_never_by_value() -> None:
    content = {
        "model": {"name": "x", "tokenizer": "y", "config": {"pad_token": "<pad>"}},
        "track": [{"name": "wandb", "api_key": PLANTED}, {"name": "mlflow", "uri": f"https://ada:{PLANTED}@host"}],
        "sweep": {"storage": f"https://host/?token={PLANTED}"},
        "hf_token": PLANTED,
    }
    faults = secret_faults(content)
    assert [fault.split("`")[1] for fault in faults] == ["track.0.api_key", "track.1.uri", "sweep.storage", "hf_token"]
    assert PLANTED not in " ".join(faults)


def test_a_recipe_that_holds_what_the_environment_keeps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", PLANTED)
    monkeypatch.setenv("TOKENIZER_NAME", "bundled:tokenizer")
    monkeypatch.setenv("API_KEY_FOLDER", "/home/ada/keys")
    content = {
        "model": {"revision": PLANTED, "tokenizer": "bundled:tokenizer"},
        "task": {"prefix": f"use {PLANTED} now", "separator": "ghp_" + "a1B2" * 9},
        "data": {"train": "/home/ada/keys/train.csv"},
    }
    faults = secret_faults(content)
    assert [fault.split("`")[1] for fault in faults] == ["model.revision", "task.prefix", "task.separator"]
    assert "MY_SERVICE_TOKEN" in faults[0] and PLANTED not in " ".join(faults) and "a1B2" not in " ".join(faults)


def test_sentences_keep_words_that_only_follow_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", PLANTED)
    assert (
        masked(f"unknown token: 'abc', refused for {PLANTED} at https://a:b@c") == "unknown token: 'abc', refused for *** at https://***@c"
    )


def test_folders_are_cut_down_to_names() -> None:
    content = {
        "data": {"train": "/home/ada/books/train.csv", "test": "bundled:x"},
        "of": ["/srv/models/mine/", "https://a.org/b/c"],
        "n": 3,
    }
    expected = {"data": {"train": "train.csv", "test": "bundled:x"}, "of": ["mine", "https://a.org/b/c"], "n": 3}
    assert without_folders(content) == expected
    assert without_folders("20% of /home/ada/books/train.csv") == "20% of train.csv"
