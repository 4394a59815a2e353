"""The learners that can be evaluated, by name. Nothing that learns is imported until it is used.

The names of the methods that predict are those of ``sectum predict --method``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sectum.errors import UsageError
from sectum.extras import how_to_install
from sectum.lab.learners.learner import LatencyLearner

if TYPE_CHECKING:
    from sectum.lab.learners.native import Shared

SHIPPED, PAPER = "page-model", "paper"


@dataclass(frozen=True)
class Entry:
    """One learner.

    Attributes:
        name: of the learner.
        title: what it does, in a few words.
        make: makes it; learners of one fold share what they can. It is sent to other processes.
        needs: modules that must be installed.
        extra: the extra of this package that installs them.
        intended: "shipped", "paper", "ablation" or "baseline".
    """

    name: str
    title: str
    make: Callable[[Shared], LatencyLearner]
    needs: tuple[str, ...] = ("lightgbm",)
    extra: str = "train"
    intended: str = "baseline"

    @property
    def missing(self) -> str | None:
        """Why it cannot be used here; None if it can."""
        absent = [module for module in self.needs if importlib.util.find_spec(module) is None]
        if not absent:
            return None
        return f"{self.name} is left out: it needs {', '.join(absent)}. {how_to_install(self.extra)}"


def learners() -> Mapping[str, Entry]:
    """All learners by name, in the order in which they are shown: the shipped method first.

    To add one, write a class with ``name`` and ``fit`` (`LatencyLearner`), a line here, and one in `_make`.
    """
    entries = (
        _entry(SHIPPED, "operator times learned, page faults modelled, cost of a page measured", intended="shipped"),
        _entry(PAPER, "a graph network's verdict, then a linear regression for each regime",
               needs=("lightgbm", "torch"), extra="learn", intended="paper"),
        _entry("paper-faults", "the same, with modelled page faults in place of the overflow",
               needs=("lightgbm", "torch"), extra="learn", intended="ablation"),
        _entry("working-set-rule", "the same as paper, with the page model's 'working set > EPC' as the verdict",
               intended="ablation"),
        _entry("three-constants", "reference kernels' rates, modelled page faults; three constants, nothing learned",
               needs=("scipy",)),
        _entry("kernel-additive", "nn-Meter's method: kernels' latencies learned and summed; knows no memory"),
        _entry("native-times-constant", "learned native latency times a constant"),
        _entry("flops-bytes", "linear regression on operations and bytes", needs=("scipy",)),
    )  # fmt: skip
    return {entry.name: entry for entry in entries}


def chosen(names: Sequence[str]) -> list[Entry]:
    """The learners of these names, or all.

    Raises:
        UsageError: a name is not one.
    """
    everything = learners()
    unknown = [name for name in names if name not in everything]
    if unknown:
        raise UsageError(f"there is no learner '{unknown[0]}': choose among {', '.join(everything)}")
    return [entry for name, entry in everything.items() if not names or name in names]


def _entry(name: str, title: str, **others: Any) -> Entry:
    return Entry(name, title, partial(_make, name), **others)


def _make(name: str, shared: Shared) -> LatencyLearner:
    match name:
        case "page-model":
            from sectum.lab.learners.shipped import OperatorsAndPages

            return OperatorsAndPages(name, shared)
        case "paper" | "paper-faults" | "working-set-rule":
            from sectum.lab.learners.two_stage import TwoStage, WorkingSetRule, modelled_bytes, overflow_bytes

            if name == "working-set-rule":
                return TwoStage(name, shared, WorkingSetRule())
            from sectum.lab.learners.graph_verdict import GraphVerdict

            return TwoStage(name, shared, GraphVerdict(), overflow_bytes if name == PAPER else modelled_bytes)
        case "three-constants":
            from sectum.lab.learners.three_constants import ThreeConstants

            return ThreeConstants()
        case "kernel-additive":
            from sectum.lab.learners.kernel_additive import KernelAdditive

            return KernelAdditive()
        case "native-times-constant":
            from sectum.lab.learners.proxies import NativeTimesConstant

            return NativeTimesConstant(shared)
    from sectum.lab.learners.proxies import FlopsAndBytes

    return FlopsAndBytes()
