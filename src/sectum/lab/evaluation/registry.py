"""What can be evaluated, by name. Nothing that learns is imported until it is asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sectum.errors import UsageError
from sectum.lab.evaluation.learner import LatencyLearner

if TYPE_CHECKING:
    from sectum.lab.learners.native import Shared

SHIPPED = "sectum-shipped"


@dataclass(frozen=True)
class Entry:
    """One learner.

    Attributes:
        name: of the learner.
        title: what it does, in a few words.
        make: makes it; learners of one fold share what they can. A function of a module, so that it
            can be sent to another process.
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
        return f"{self.name} is left out: it needs {', '.join(absent)} (pip install 'sectum[{self.extra}]')"


def learners() -> Mapping[str, Entry]:
    """All learners by name, in the order in which they are shown: the shipped one first.

    To add one, write a class with ``name`` and ``fit`` (`LatencyLearner`), and a line here.
    """
    entries = (
        Entry(SHIPPED, "operator times learned, page faults modelled, cost of a page measured", _shipped,
              intended="shipped"),
        Entry("sectum-paper", "a graph network's verdict, then a linear regression for each regime", _paper,
              ("lightgbm", "torch", "torch_geometric"), "learn", "paper"),
        Entry("sectum-paper-faults", "the same, with modelled page faults in place of the overflow", _paper_faults,
              ("lightgbm", "torch", "torch_geometric"), "learn", "ablation"),
        Entry("working-set-rule", "the same as sectum-paper, with 'working set > EPC' as the verdict", _rule,
              intended="ablation"),
        Entry("page-model", "reference kernels' rates, modelled page faults; three constants, nothing learned", _pages,
              needs=()),
        Entry("kernel-additive", "nn-Meter's method: kernels' latencies learned and summed; knows no memory", _kernels),
        Entry("native-times-constant", "learned native latency times a constant", _constant),
        Entry("flops-bytes", "linear regression on operations and bytes", _flops, needs=()),
        Entry("gcn", "BRP-NAS's method: a graph convolutional network, end to end", _gcn,
              ("torch", "torch_geometric"), "learn"),
        Entry("graphsage", "NNLQP's method: GraphSAGE with static features, end to end", _sage,
              ("torch", "torch_geometric"), "learn"),
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


def _shipped(shared: Shared) -> LatencyLearner:
    from sectum.lab.learners.shipped import OperatorsAndPages

    return OperatorsAndPages(SHIPPED, shared)


def _paper(shared: Shared) -> LatencyLearner:
    from sectum.lab.learners.graph_network import GraphVerdict
    from sectum.lab.learners.two_stage import TwoStage, overflow_bytes

    return TwoStage("sectum-paper", shared, GraphVerdict(), overflow_bytes)


def _paper_faults(shared: Shared) -> LatencyLearner:
    from sectum.lab.learners.graph_network import GraphVerdict
    from sectum.lab.learners.two_stage import TwoStage, modelled_bytes

    return TwoStage("sectum-paper-faults", shared, GraphVerdict(), modelled_bytes)


def _rule(shared: Shared) -> LatencyLearner:
    from sectum.lab.learners.two_stage import TwoStage, WorkingSetRule, overflow_bytes

    return TwoStage("working-set-rule", shared, WorkingSetRule(), overflow_bytes)


def _pages(_shared: Shared) -> LatencyLearner:
    from sectum.lab.learners.page_model import PageModel

    return PageModel()


def _kernels(_shared: Shared) -> LatencyLearner:
    from sectum.lab.learners.kernel_additive import KernelAdditive

    return KernelAdditive()


def _constant(shared: Shared) -> LatencyLearner:
    from sectum.lab.learners.proxies import NativeTimesConstant

    return NativeTimesConstant(shared)


def _flops(_shared: Shared) -> LatencyLearner:
    from sectum.lab.learners.proxies import FlopsAndBytes

    return FlopsAndBytes()


def _gcn(_shared: Shared) -> LatencyLearner:
    from sectum.lab.learners.graph_network import GraphRegression

    return GraphRegression("gcn", layer="gcn", with_statics=False)


def _sage(_shared: Shared) -> LatencyLearner:
    from sectum.lab.learners.graph_network import GraphRegression

    return GraphRegression("graphsage", layer="sage", with_statics=True)
