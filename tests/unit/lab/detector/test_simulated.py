"""Networks that nobody measured."""

from __future__ import annotations

import itertools

import pytest

from sectum.errors import DatasetInvalid
from sectum.lab.detector import simulated
from sectum.ort import stored
from sectum.ort.page_trace import page_trace

pytest.importorskip("pyarrow", reason="simulated networks are stored as Parquet: install sectum[learn]")


@pytest.fixture(scope="module")
def three():
    return list(itertools.islice(simulated.simulate(8), 3))


def test_labels_are_the_page_models(three):
    """The working set of each is what the page-replacement model says of the graph that is stored."""
    for network in three:
        assert page_trace(stored.loads(network.graph)).pages * 4096 == network.page_model_bytes


def test_no_structure_comes_twice(three):
    """Each network drawn is another one."""
    assert len({network.structure for network in three}) == 3


def test_a_file_is_gone_on_with(tmp_path, three, monkeypatch):
    """What a file holds is not made again, and what is missing is what would have come next."""
    path = tmp_path / "simulated.parquet"
    assert simulated.make(path, 1, 8) == three[:1]
    assert simulated.make(path, 2, 8) == three[:2]
    monkeypatch.setattr(simulated, "simulate", lambda block, seed: pytest.fail("nothing is missing"))
    assert simulated.make(path, 1, 8) == three[:1]


def test_another_file_is_refused(tmp_path):
    """A file that holds something else is named."""
    path = tmp_path / "simulated.parquet"
    path.write_bytes(b"PAR1 no, it is not")
    with pytest.raises(DatasetInvalid, match=r"simulated\.parquet"):
        simulated.make(path, 1, 8)


def test_a_file_of_another_layout_is_refused(tmp_path):
    """Networks as they are executed with AVX2 are not learned from for AVX-512."""
    path = tmp_path / "simulated.parquet"
    simulated.make(path, 1, 8)
    with pytest.raises(DatasetInvalid, match="layout"):
        simulated.make(path, 1, 16)
