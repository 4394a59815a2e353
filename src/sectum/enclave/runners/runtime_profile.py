"""Reads the profile that ONNX Runtime writes, and averages each operator's time over inferences.

The runtime truncates a kernel's time to whole microseconds. Half a microsecond is added back, so that the many small
operators of a network are right on average; an error of at most half a microsecond remains for each.
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
    time_us: dict[int, float] = field(default_factory=dict)  # run -> sum: the body of a loop runs several times


def trimmed_mean(values: Iterable[float]) -> float:
    """Mean without the smallest and the largest tenth; from three values on, at least one is left out at each end.

    This is no median, so that the operators' means add up to the mean of the inference even if the machine's speed
    changes.

    Raises:
        ValueError: no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values to average")
    cut = max(len(ordered) // 10, 1 if len(ordered) > 2 else 0)
    middle = ordered[cut : len(ordered) - cut]
    return sum(middle) / len(middle)


def read_profile(path: Path, samples: Sequence[Sample]) -> list[OperatorTime]:
    """Read the operators, in the order in which they ran.

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
            "it was not written by ONNX Runtime 1.31; install that version"
        ) from error


def _operator(node: _Node, samples: Sequence[Sample]) -> OperatorTime:
    arguments = node.event["args"]
    # The time that the run waited for a CPU is subtracted from each operator in proportion.
    mean_us = trimmed_mean(us * samples[run].latency_ns / samples[run].wall_ns for run, us in node.time_us.items())
    return OperatorTime(
        name=node.event["name"].removesuffix(_SUFFIX),
        type=arguments["op_name"],
        time_us=mean_us,
        products_us=sum(s.reference_ns(0) for s in samples) / len(samples) / 1e3,
        sums_us=sum(s.reference_ns(1) for s in samples) / len(samples) / 1e3,
        output_shapes=tuple(tuple(shape) for entry in arguments["output_type_shape"] for shape in entry.values()),
    )
