import socket

import pytest

from burnish.core.network import hub_reachable


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def resolving(monkeypatch: pytest.MonkeyPatch, known: str | None) -> list[str]:
    """Lets exactly the host `known` resolve; returns the hosts that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int) -> list[str]:
        asked.append(host)
        if host != known:
            raise socket.gaierror(-2, "Name or service not known")
        return ["somewhere"]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_the_hub_is_reachable_where_its_name_resolves(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolving(monkeypatch, "huggingface.co")
    assert hub_reachable()
    assert asked == ["huggingface.co"]


def test_it_is_not_where_the_name_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, None)
    assert not hub_reachable()


def test_another_endpoint_is_asked_for_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    asked = resolving(monkeypatch, "mirror.example")
    assert hub_reachable()
    assert asked == ["mirror.example"]


def test_offline_is_taken_at_its_word_and_a_proxy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolving(monkeypatch, None)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    assert hub_reachable()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not hub_reachable()
    assert asked == []
