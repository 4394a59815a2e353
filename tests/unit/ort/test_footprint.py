"""The memory that grows over the layers."""

from __future__ import annotations

import numpy as np
import pytest

from sectum import zoo
from sectum.ort.footprint import Footprint, footprints
from sectum.ort.page_trace import PageTrace
from sectum.predict import load_predictor
from sectum.units import PAGE_BYTES


def trace(*touches: tuple[int, int, int], weight_pages: int) -> PageTrace:
    """A trace of (operator, first page, pages)."""
    made = np.array(touches, dtype=np.int64).reshape(-1, 3)
    return PageTrace(made, 0, weight_pages, used_weight_pages=0, plan=None, _graph=None, _memories=())


def test_a_page_counts_once_at_its_first_touch():
    """Pages that overlap or are touched again are not counted twice, and weights are told from the rest."""
    levels = footprints(trace((0, 0, 4), (0, 10, 2), (1, 2, 4), (2, 10, 2), (3, 11, 3), weight_pages=8), 5)
    expected = [(4, 6), (6, 8), (6, 8), (6, 10), (6, 10)]
    assert levels == tuple(Footprint(weights * PAGE_BYTES, total * PAGE_BYTES) for weights, total in expected)


def test_operators_that_touch_nothing_have_no_footprint():
    """A network whose tensors are all too small to be paged is drawn as nothing, not as an error."""
    assert footprints(trace(weight_pages=0), 2) == (Footprint(0, 0), Footprint(0, 0))


@pytest.mark.parametrize(("network", "batch"), [("squeezenet1_1", 1), ("resnet18", 3)])
def test_the_last_level_is_the_working_set(network, batch):
    """The staircase ends at the memory that the verdict speaks of, so both agree on whether the network fits."""
    trace = load_predictor().prepare(zoo.to_graph(zoo.network(network), batch)).trace
    levels = footprints(trace, 1 + trace.touches[:, 0].max())
    assert levels[-1] == Footprint(trace.used_weight_pages * PAGE_BYTES, trace.pages * PAGE_BYTES)
    totals = [level.total_bytes for level in levels]
    assert totals == sorted(totals)
