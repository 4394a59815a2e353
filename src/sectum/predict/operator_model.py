"""The learned part: how long each operator takes outside an enclave, and what its pages cost in the software one.

Stored as one ONNX file per group of operators, and one for pages, beside a ``manifest.json`` that holds their SHA-256,
the feature schema that they were trained with, the machine that they were trained on and how far off they were on
networks that they had not seen. Reading one imports ONNX Runtime and nothing that trains. There is one for each kind of
processor (`SHIPPED`): with AVX-512 the runtime executes other kernels on other shapes than with AVX2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.errors import ArtefactInvalid
from sectum.ort.cpu import Cpu
from sectum.paging.replacement import PagingCounts
from sectum.predict.artefact import read_manifest, read_session
from sectum.predict.features import OperatorFeatures, schema_hash
from sectum.predict.linear_times import LinearTimes
from sectum.predict.overcommit import ErrorDistribution
from sectum.predict.paging_features import paging_features
from sectum.predict.spread import Spread, Width
from sectum.predict.support import Support

ARTEFACTS = Path(__file__).parent / "artefacts" / "operators"
SHIPPED = {Cpu.AVX2: ARTEFACTS / "avx2", Cpu.AVX512: ARTEFACTS / "avx512"}
"""Folders by kind of CPU."""
REGIMES = ("native", "fits", "pages")
"""Outside enclaves; in one that a network fits into; in one that it does not fit into."""
PAGES = "pages"
"""Names the correction of page costs among the files; the others are groups of operators."""
_NORMAL_95 = 1.645
"""Standard deviations on each side of 90 % of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Overheads:
    """What lies between the profile of a network's operators and the latency of an inference, in reference units.

    Attributes:
        profiling: time that the profile adds to each operator, above all for reading the clock.
        start: time of an inference beside its operators: the call, inputs bound, outputs handed over.
    """

    profiling: float
    start: float

    def unprofiled(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Times of operators when nothing is profiled; at least a tenth is left of each."""
        unprofiled: NDArray[np.float64] = np.maximum(times - self.profiling, times / 10)
        return unprofiled

    def started(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Times of all operators of one network, each with its part of the inference's start."""
        return times + self.start / max(1, len(times))


@dataclass(frozen=True)
class OperatorModel:
    """Operator times in units of the reference kernel's time: a linear estimate, and a correction for each group.

    Attributes:
        folder: where the artefact lies.
        machine: the machine that it was trained on, in words.
        reference_ms: that machine's typical time of the reference kernel.
        most_threads: that operators were measured with.
        cpu: its kind of CPU.
        spread: how far off predictions were for networks not trained on, by what their time is made of.
        widths: by regime, quantiles between which nine of ten logarithmic errors lay, over the spread of each.
        working_set_errors: of modelled working sets.
        overheads: of profiling, and of an inference beside its operators.
        page_factors: cost of a page by the group of operators that touches it, over the mean; of the software EPC.
        linear: costs of the work that kernels do.
        support: the operators that it was trained on.
        files: the ONNX file of each group and its SHA-256, and under `of_threads` that of what threads change.
        training: how it was made: counts, versions, figures of its accuracy.
    """

    folder: Path
    machine: str
    reference_ms: float
    most_threads: int
    cpu: Cpu
    spread: Spread
    widths: Mapping[str, Width]
    working_set_errors: ErrorDistribution
    overheads: Overheads
    page_factors: Mapping[str, float]
    linear: LinearTimes
    support: Support
    files: Mapping[str, tuple[str, str]]
    training: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path | None = None) -> OperatorModel:
        """Read the manifest and check that the schema is today's.

        Args:
            folder: of the artefact; by default the shipped one for this machine's kind of processor.

        Raises:
            ArtefactInvalid: a file is missing, damaged, or made with other features.
        """
        folder = folder or shipped_for(Cpu.here())
        manifest = read_manifest(folder / "manifest.json")
        if manifest.get("schema_sha256") != schema_hash():
            raise ArtefactInvalid(
                f"{folder}: these operator models were trained with other features than this version of Sectum "
                "computes; train them again (python -m sectum.lab.training.train) or install the matching version"
            )
        try:
            return cls(
                folder=folder,
                machine=str(manifest["machine"]),
                reference_ms=float(manifest["reference_ms"]),
                most_threads=int(manifest["most_threads"]),
                cpu=Cpu.of_block(int(manifest["nchwc_block"])),
                spread=Spread.from_dict(manifest["spread"]),
                widths={name: _width(manifest["widths"][name]) for name in REGIMES},
                working_set_errors=ErrorDistribution.from_json(manifest["working_set_errors"]),
                overheads=Overheads(**{str(k): float(v) for k, v in manifest["overheads"].items()}),
                page_factors={str(k): float(v) for k, v in manifest["page_factors"].items()},
                linear=LinearTimes.from_dict(manifest["linear"]),
                support=Support(folder, _file(manifest["support"])),
                files={str(k): _file(v) for k, v in manifest["groups"].items()},
                training=dict(manifest["training"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtefactInvalid(f"{folder}/manifest.json: {error!r} is missing or has the wrong type") from error

    def normalized_latencies(self, features: OperatorFeatures) -> NDArray[np.float64]:
        """Time of each operator over that of the GEMM reference kernel; shape ``(operators,)``."""
        kinds, times = np.array(features.kinds), self.linear.times(features)
        for kind in set(features.kinds):
            chosen = np.flatnonzero(kinds == kind)
            times[chosen] *= self._factors(kind, features.values[chosen])
        if not features.several_threads.any():
            return times
        values = with_time(features.values, times)
        for kind in {kind for kind in features.kinds if of_threads(kind) in self.files}:
            chosen = np.flatnonzero((kinds == kind) & features.several_threads)
            times[chosen] *= self._factors(of_threads(kind), values[chosen])
        return times

    def _factors(self, name: str, values: NDArray[np.float32]) -> NDArray[np.float64]:
        (logs,) = self._regressor(name).run(None, {"features": values})
        return np.exp(np.asarray(logs, dtype=np.float64).reshape(-1))

    def around(self, regime: str, spread: float, variation: float = 0.0) -> Width:
        """Factors on a latency that make its 90 % interval; the prediction itself is inside.

        Args:
            regime: one of `REGIMES`.
            spread: of the network, as `Spread.of` gives it.
            variation: of the machine, as `Calibration.variation` has it; independent of the errors of predictions.
        """
        low, high = self.widths[regime]
        own = _NORMAL_95 * variation
        return math.exp(-math.hypot(min(0.0, low * spread), own)), math.exp(math.hypot(max(0.0, high * spread), own))

    def page_weights(self, features: OperatorFeatures) -> NDArray[np.float64]:
        """Cost of a page that each operator touches, over the mean; shape ``(operators,)``."""
        return np.array([self.page_factors.get(group, 1.0) for group in features.kinds])

    def page_corrections(
        self, inferences: Sequence[tuple[OperatorFeatures, PagingCounts]], epc_pages: int | None
    ) -> list[float]:
        """For each inference the factor on what all its pages cost together; 1 where none is loaded."""
        corrections = [1.0] * len(inferences)
        paging = [index for index, (_, counts) in enumerate(inferences) if counts.loads]
        if epc_pages is None or not paging:
            return corrections
        rows = np.concatenate([paging_features(*inferences[index], epc_pages) for index in paging])
        (column,) = self._regressor(PAGES).run(None, {"features": rows})
        for index, log in zip(paging, np.asarray(column).reshape(-1), strict=True):
            corrections[index] = float(np.exp(log))
        return corrections

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to make the sessions anew."""
        return {name: value for name, value in vars(self).items() if name != "_loaded"}

    @cached_property
    def _loaded(self) -> dict[str, Any]:
        return {}

    def _regressor(self, group: str) -> Any:
        """The session of a group, made at its first use: most networks need only some."""
        if group not in self._loaded:
            if group not in self.files:
                raise ArtefactInvalid(f"{self.folder}: no model for '{group}' in it; train again")
            self._loaded[group] = read_session(self.folder, *self.files[group])
        return self._loaded[group]


def with_time(values: NDArray[np.float32], times: NDArray[np.float64]) -> NDArray[np.float32]:
    """Features, and the time with one thread: what tells the time with several.

    Args:
        values: shape ``(operators, len(FEATURES))``.
        times: normalized; shape ``(operators,)``.
    """
    return np.column_stack([values, np.log(times).astype(np.float32)])


def of_threads(group: str) -> str:
    """Names the model of what several threads change in a group."""
    return f"{group}-threads"


def shipped_for(cpu: Cpu) -> Path:
    """Folder of the operator models for a kind of CPU, or for the one that is most like it."""
    return SHIPPED.get(cpu.without_amx, SHIPPED[Cpu.AVX2])


def _file(stored: Mapping[str, Any]) -> tuple[str, str]:
    return str(stored["file"]), str(stored["sha256"])


def _width(stored: Any) -> Width:
    low, high = (float(quantile) for quantile in stored)
    if not -math.inf < low <= high < math.inf:
        raise ValueError(f"{stored!r} are no two quantiles of an interval")
    return low, high
