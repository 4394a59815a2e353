"""Reading the profile that the runtime writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sectum.enclave.runners.runner import Sample
from sectum.enclave.runners.runtime_profile import read_profile, trimmed_mean
from sectum.errors import EnclaveFailed


def node(name: str, ts: int, dur: int, index: str = "0") -> dict[str, Any]:
    return {
        "cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur,
        "args": {
            "op_name": "Conv", "node_index": index, "parameter_size": "72", "output_size": "16",
            "input_type_shape": [{"float": [1, 2]}, {"int64": []}], "output_type_shape": [{"float": [1, 4]}],
        },
    }  # fmt: skip


def run(ts: int, dur: int = 90) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": dur}


def written(tmp_path: Path, events: object) -> Path:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(events))
    return path


def sample(latency_ns: int = 100, wall_ns: int = 100) -> Sample:
    return Sample(latency_ns, wall_ns, 10_000, 10_000, 20_000, 20_000)


def test_warm_up_is_left_out(tmp_path: Path) -> None:
    """Only the last runs, those with samples, are averaged; the cold first one is not."""
    events = [node("a", 10, 5000), run(0), node("a", 110, 9), run(100), node("a", 210, 9), run(200)]
    (found,) = read_profile(written(tmp_path, events), [sample(), sample()])
    assert found.name == "a"
    assert found.time_us == pytest.approx(9.5)  # half a microsecond for the runtime's rounding down
    assert (found.products_us, found.sums_us) == (10, 20)
    assert found.output_shapes == ((1, 4),)


def test_nodes_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Unnamed nodes share a name in the profile; their index tells them apart, in the order of execution."""
    events = [run(0), node("", 10, 30, "7"), node("", 50, 20, "3")]
    assert [o.time_us for o in read_profile(written(tmp_path, events), [sample()])] == [30.5, 20.5]


def test_a_loop_is_the_sum_of_its_rounds(tmp_path: Path) -> None:
    """A node that runs twice in an inference takes the sum of both times."""
    events = [run(0), node("a", 10, 30), node("a", 50, 20)]
    (found,) = read_profile(written(tmp_path, events), [sample()])
    assert found.time_us == pytest.approx(51)


def test_waiting_is_shared_out(tmp_path: Path) -> None:
    """If an inference had a CPU for half of its time, half of each operator's time counts."""
    events = [run(0), node("a", 10, 39)]
    (found,) = read_profile(written(tmp_path, events), [sample(latency_ns=50, wall_ns=100)])
    assert found.time_us == pytest.approx(39.5 / 2)


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"cat": "Node", "name": "a_kernel_time"}]', '{"a": 1}'])
def test_other_formats_are_refused(tmp_path: Path, content: str) -> None:
    """A profile that the runtime did not write raises EnclaveFailed."""
    path = tmp_path / "profile.json"
    path.write_text(content)
    with pytest.raises(EnclaveFailed, match=r"ONNX Runtime 1\.31"):
        read_profile(path, [sample()])


def test_trimmed_mean_ignores_outliers() -> None:
    """The smallest and largest tenth are left out, at least one value each from three values on."""
    assert trimmed_mean([1, 10, 12, 1000]) == 11
    assert trimmed_mean([3]) == 3
    with pytest.raises(ValueError, match="no values"):
        trimmed_mean([])
