"""What neighboring token lists begin with in common."""

from __future__ import annotations

from burnish.core.prefixes import shared_prefixes


def test_shared_prefixes_of_token_lists() -> None:
    assert shared_prefixes([[5, 6, 7, 8], [5, 6, 7, 9, 4], [5, 6, 7]]) == [0, 3, 2]
    assert shared_prefixes([[5, 6, 7, 8], [5, 6, 7, 9, 4], [5, 6, 7]], [2, 2, 0]) == [0, 2, 0]
    assert shared_prefixes([[1, 2], [3, 2], [3]]) == [0, 0, 0]
    assert shared_prefixes([]) == []
