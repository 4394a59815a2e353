"""How well bounds hold operators of a kind that is treated as never measured; writes the tables of `docs/support.md`.

The bounds are not learned, so leaving a kind out is treating its operators as outside the support. For types that
share a kernel, latency models are trained without one of them, and asked about it.

``python -m sectum.lab.training.kinds_left_out --data data/networks --operators data/operators``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from sectum.lab.learners.measured import read, without_repeats
from sectum.lab.learners.operator_learning import Observation, fold_of, from_operator_campaign, learn, observed, only
from sectum.lab.training.support import write
from sectum.ort.cpu import Cpu
from sectum.predict.bounds import physical_bounds
from sectum.predict.features import FEATURES, OperatorFeatures
from sectum.predict.operator_model import OperatorModel, shipped_for
from sectum.predict.support import INSIDE, NEAR, NEAR_FACTOR, Support

Mask = NDArray[np.bool_]
Kind = Callable[[OperatorFeatures], Mask]

UNLIKE = {"pool": ("LRN", "MaxPool"), "pointwise": ("Softplus", "Mul"), "move": ("Pad", "Transpose")}
"""Types whose kernel no other type of the kind has, for comparison."""
SAME_KERNEL = {"gemm": ("Gemm", "MatMul", "com.microsoft:FusedGemm"), "plain_conv": ("Conv", "com.microsoft:FusedConv")}


def _column(features: OperatorFeatures, name: str) -> NDArray[np.float32]:
    return features.values[:, FEATURES.index(name)]


def _of_kind(*kinds: str) -> Kind:
    return lambda features: np.isin(features.kinds, kinds)


def _of_type(*names: str) -> Kind:
    return lambda features: np.array([any(name in of_one for name in names) for of_one in features.types], dtype=bool)


def _grouped(features: OperatorFeatures) -> Mask:
    return _of_kind("conv", "plain_conv")(features) & (_column(features, "groups") > 1)


def _long_kernels(features: OperatorFeatures) -> Mask:
    sides = np.maximum(_column(features, "kernel_height"), _column(features, "kernel_width"))
    return _of_kind("conv", "plain_conv", "depthwise")(features) & (sides >= 7)


def _of_signals(features: OperatorFeatures) -> Mask:
    flat: Mask = _column(features, "in_height") == 1
    return _of_kind("conv", "plain_conv", "depthwise")(features) & flat


KINDS: dict[str, Kind] = {
    "depthwise convolutions": _of_kind("depthwise"),
    "grouped convolutions": _grouped,
    "kernels of 7 and more": _long_kernels,
    "blocked convolutions": _of_kind("conv"),
    "other convolutions": _of_type("FusedConv"),
    "convolutions of one dimension": _of_signals,
    "transposed convolutions": _of_type("ConvTranspose"),
    "matrix products": _of_kind("gemm"),
    "quantized products": _of_kind("quantized"),
    "recurrent layers": _of_kind("recurrent"),
    "LRN": _of_type("LRN"),
    "LayerNormalization": _of_type("LayerNormalization"),
    "Softmax": _of_type("Softmax"),
    "Gelu and the like": _of_type("Gelu", "Erf"),
    "pools and reductions": _of_kind("pool"),
    "moves": _of_kind("move"),
    "pointwise": _of_kind("pointwise"),
}


def table_of_bounds(seen: Sequence[Observation], operators: OperatorModel) -> list[str]:
    """For each kind that is treated as never measured: operators within bounds, and networks within the interval."""
    bounds = [physical_bounds(one.features, one.threads) for one in seen]
    times = [operators.normalized_latencies(one.features) for one in seen]
    lines = []
    for name, kind in KINDS.items():
        inside: list[bool] = []
        ratios: list[float] = []
        covered: list[bool] = []
        for one, (low, high), predicted in zip(seen, bounds, times, strict=True):
            chosen = kind(one.features)
            if not chosen.any():
                continue
            inside += ((low <= one.times) & (one.times <= high))[chosen].tolist()
            ratios += (high / low)[chosen].tolist()
            if one.whole:
                started = operators.overheads.started(predicted)
                spread = operators.spread.of(one.features, started * operators.reference_ms)
                narrow, wide = operators.around("native", spread)
                others = started[~chosen].sum()
                ends = others * narrow + low[chosen].sum(), others * wide + high[chosen].sum()
                covered.append(bool(ends[0] <= one.total <= ends[1]))
        if inside:
            lines.append(
                f"| {name} | {len(inside):,} | {100 * np.mean(inside):.1f} % | {np.median(ratios):.0f} "
                f"| {len(covered):,} | {f'{100 * np.mean(covered):.1f} %' if covered else ''} |"
            )
    return lines


def table_of_types(seen: Sequence[Observation], types_of: Mapping[str, Sequence[str]]) -> list[str]:
    """Measured over predicted, by models trained without a type; where types share a kernel, of its near operators."""
    lines = []
    for kind, types in types_of.items():
        for left_out in types:
            others = [only(one, _of_kind(kind)(one.features) & ~_exactly(one.features, left_out)) for one in seen]
            others = [one for one in others if len(one.times)]
            asked = [only(one, _exactly(one.features, left_out)) for one in seen]
            asked = [one for one in (_near(others, asked) if types_of is SAME_KERNEL else asked) if len(one.times)]
            learned = learn(others)
            predicted = learned.normalized_times([one.features for one in asked])
            ratio = np.concatenate([one.times for one in asked]) / np.concatenate(predicted)
            low, middle, high = np.quantile(ratio, [0.05, 0.5, 0.95])
            within = np.mean((ratio <= NEAR_FACTOR) & (ratio >= 1 / NEAR_FACTOR))
            lines.append(
                f"| {left_out} | {len(ratio):,} | {low:.2f} | {middle:.2f} | {high:.2f} | {100 * within:.0f} % |"
            )
    return lines


def _near(others: Sequence[Observation], asked: Sequence[Observation]) -> list[Observation]:
    """Of the operators asked about those that are near the others: of sizes that a type with the same kernel has."""
    return [only(one, placed == NEAR) for one, placed in zip(asked, _placed(others, asked), strict=True)]


def _placed(others: Sequence[Observation], asked: Sequence[Observation]) -> list[NDArray[np.str_]]:
    """Where the operators of each network asked about lie in the support of the others."""
    with TemporaryDirectory() as folder:
        stored = write(Path(folder), [one.features for one in others])
        support = Support(Path(folder), (stored["file"], stored["sha256"]))
        return [np.array([place.support for place in support.places(one.features)], dtype=np.str_) for one in asked]


def time_outside(seen: Sequence[Observation]) -> str:
    """How much of networks lies outside the support of all networks of other topologies, a fifth held out."""
    numbers = fold_of(seen, 5)
    learned = [one for one, number in zip(seen, numbers, strict=True) if number > 0]
    asked = [one for one, number in zip(seen, numbers, strict=True) if number == 0 and one.whole]
    shares = [
        one.times[placed != INSIDE].sum() / one.times.sum()
        for one, placed in zip(asked, _placed(learned, asked), strict=True)
    ]
    return (
        f"With a fifth of all topologies held out, {100 * np.mean(shares):.2f} % of the time of their {len(asked):,} "
        f"networks is not inside the support of the others; in {100 * np.mean(np.array(shares) > 0.05):.1f} % of them "
        "it is more than 5 %."
    )


def _exactly(features: OperatorFeatures, name: str) -> Mask:
    return np.array([of_one == name for of_one in features.types], dtype=bool)


def observations(data: Path, operators: Path) -> dict[str, tuple[Cpu, list[Observation]]]:
    """Everything that each machine measured: networks, and operators in the folder of operator campaigns named so."""
    networks = without_repeats(read(data))
    found = {}
    for name in sorted({one.machine for one in networks}):
        its = [one for one in networks if one.machine == name]
        found[name] = its[0].cpu, [*observed(its), *from_operator_campaign(operators / name, its[0].cpu)]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a dataset: sectum dataset collect")
    parser.add_argument("--operators", type=Path, required=True, help="folder of operator campaigns, one per machine")
    options = parser.parse_args(arguments)
    for name, (cpu, seen) in observations(options.data, options.operators).items():
        lines = [
            f"### {name}",
            "",
            "| kind | operators | within bounds | most over least | networks with it | within the interval |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
            *table_of_bounds(seen, OperatorModel.load(shipped_for(cpu))),
            "",
            f"| type | operators | 5 % | median | 95 % | within a factor of {NEAR_FACTOR} |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
            *table_of_types(seen, SAME_KERNEL),
            *table_of_types(seen, UNLIKE),
            "",
            time_outside(seen),
        ]
        sys.stdout.write("\n".join(lines) + "\n\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
