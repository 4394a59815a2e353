"""What a picture of a pipeline shows is when each request is where."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest

from sectum.cli.plan.chain_pictures import draw, pipeline


def enclaves(*times: tuple[float, float, float]) -> list:
    """Enclaves by the time that they are busy, the time of the link, and that for which it is occupied."""
    return [SimpleNamespace(busy_ms=busy, link_ms=link, occupied_ms=occupied) for busy, link, occupied in times]


def test_results_come_as_often_as_the_slowest_enclave_gives_them() -> None:
    """After the pipeline is filled, a result comes in the time of the slowest enclave; the first one passes all."""
    visits = pipeline(enclaves((2, 1, 0.5), (5, 1, 0.5), (3, 0, 0)), 6)
    ends = [places[-1].end_ms for places in visits]
    assert ends[0] == 2 + 1 + 5 + 1 + 3
    assert all(later - earlier == 5 for earlier, later in pairwise(ends))


def test_a_slow_link_holds_the_pipeline() -> None:
    """A link that is occupied longer than any enclave is busy decides how often results come; its delay does not."""
    visits = pipeline(enclaves((2, 107, 7), (3, 0, 0)), 5)
    ends = [places[-1].end_ms for places in visits]
    assert ends[0] == 2 + 107 + 3
    assert all(later - earlier == 7 for earlier, later in pairwise(ends))


@pytest.mark.slow
@pytest.mark.parametrize("goal", ["latency", "throughput"])
def test_pictures_are_written(tmp_path, goal: str) -> None:
    """Both pictures of a plan for several enclaves are PNG files."""
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib: install sectum[train]")
    from sectum.cli.plan.chain import make_chain
    from sectum.plan.links import DEFAULT_LINK
    from sectum.units import MIB

    result = make_chain(
        "zoo:squeezenet1_1", enclave="softepc", epc_bytes=6 * MIB, batch=None, inputs={}, threads=1, enclaves=3,
        goal=goal, link=DEFAULT_LINK,
    )  # fmt: skip
    for path in draw(result, tmp_path):
        assert path.read_bytes().startswith(b"\x89PNG")
