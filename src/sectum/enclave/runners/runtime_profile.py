"""Reads the profile that ONNX Runtime writes, and averages each operator's time over inferences.

The runtime cuts a kernel's time down to whole microseconds. Half of one is added back, so that the many small
operators of a network are not all counted short; what is left is an error of at most half a microsecond each.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sectum.enclave.runners.runner import OperatorTime, Sample
from sectum.errors import EnclaveFailed

_SUFFIX = "_kernel_time"
_CUT_US = 0.5


@dataclass
class _Node:
    event: dict[str, Any]
    time_us: dict[int, float] = field(default_factory=dict)  # run -> sum, as a loop's body runs several times


def trimmed_mean(values: Iterable[float]) -> float:
    """Mean without the smallest and the largest tenth, of which there is at least one each from three values on.

    Not a median: the sum of the operators' means is the mean of the inference, on a machine whose speed moves too.

    Raises:
        ValueError: no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values to average")
    cut = max(len(ordered) // 10, 1 if len(ordered) > 2 else 0)
    middle = ordered[cut : len(ordered) - cut]
    return sum(middle) / len(middle)


def _shapes(described: Sequence[dict[str, list[int]]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(shape) for entry in described for shape in entry.values())


def read_profile(path: Path, samples: Sequence[Sample]) -> list[OperatorTime]:
    """Operators in the order in which they ran.

    Args:
        path: the profile, a JSON list of events.
        samples: the last inferences in the profile, in order; those before them were warm-up.

    Raises:
        EnclaveFailed: the profile is not one that this version of the runtime writes.
    """
    try:
        events = json.loads(path.read_bytes())
        runs = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e.get("name") == "model_run")
        starts = [start for start, _ in runs]
        first = len(runs) - len(samples)
        nodes: dict[tuple[str, str], _Node] = {}
        for event in events:
            if event["cat"] != "Node" or not event["name"].endswith(_SUFFIX):
                continue
            run = bisect.bisect_right(starts, event["ts"]) - 1 - first
            if run >= 0:
                node = nodes.setdefault((event["name"], event["args"]["node_index"]), _Node(event))
                node.time_us[run] = node.time_us.get(run, 0.0) + event["dur"] + _CUT_US
        return [_operator(node, samples) for node in nodes.values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EnclaveFailed(
            f"the runtime's profile could not be read ({type(error).__name__}: {error}): "
            "it is not of ONNX Runtime 1.31, so install that version"
        ) from error


def _operator(node: _Node, samples: Sequence[Sample]) -> OperatorTime:
    arguments = node.event["args"]
    # What the whole run waited for a CPU is taken out of each operator in its proportion.
    mean_us = trimmed_mean(us * samples[run].latency_ns / samples[run].wall_ns for run, us in node.time_us.items())
    return OperatorTime(
        name=node.event["name"].removesuffix(_SUFFIX),
        type=arguments["op_name"],
        time_us=mean_us,
        products_us=sum(s.reference_ns(0) for s in samples) / len(samples) / 1e3,
        sums_us=sum(s.reference_ns(1) for s in samples) / len(samples) / 1e3,
        input_shapes=_shapes(arguments["input_type_shape"]),
        output_shapes=_shapes(arguments["output_type_shape"]),
        input_types=tuple(kind for entry in arguments["input_type_shape"] for kind in entry),
        parameter_bytes=int(arguments["parameter_size"]),
        output_bytes=int(arguments["output_size"]),
    )
