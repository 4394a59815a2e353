"""Strips that leave rows out or read what is not there are refused before anything runs."""

from __future__ import annotations

import copy

import pytest

from sectum.enclave.streaming.strips import Strips

GOOD = {
    "sources": [{"tensor": "x", "shape": [1, 16, 8, 4], "outer": 1}],
    "results": [{"operator": 0, "shape": [1, 16, 8, 4], "outer": 1, "over": None}],
    "outer": [1],
    "strips": [
        {"operators": [{"made": [0, 4], "reads": [[0, 5], None], "pads": [1, 1, 0, 1]}],
         "sources": [[0, 5]], "results": [[0, 4]]},
        {"operators": [{"made": [4, 8], "reads": [[3, 8], None], "pads": [0, 1, 1, 1]}],
         "sources": [[3, 8]], "results": [[4, 8]]},
    ],
}  # fmt: skip


def test_good_strips_are_read() -> None:
    """All fields arrive."""
    strips = Strips.of(GOOD)
    assert [strip.results for strip in strips.strips] == [((0, 4),), ((4, 8),)]
    assert strips.sources[0].tensor == "x"


@pytest.mark.parametrize(
    ("strip", "field", "value"),
    [
        (0, "results", [[0, 3]]),
        (1, "results", [[3, 8]]),
        (1, "results", [[4, 7]]),
        (1, "results", [[8, 4]]),
        (0, "results", [[-1, 4]]),
        (0, "sources", [[-1, 5]]),
        (1, "sources", [[3, 9]]),
        (1, "sources", [[5, 5]]),
        (1, "operators", [{"made": [5, 8], "reads": [[3, 8], None], "pads": None}]),
    ],
)
def test_wrong_strips_are_refused(strip: int, field: str, value: list) -> None:
    """Rows that no strip makes, that two make, and that are not there end in an error."""
    data = copy.deepcopy(GOOD)
    data["strips"][strip][field] = value
    with pytest.raises(ValueError, match="strip"):
        Strips.of(data)
