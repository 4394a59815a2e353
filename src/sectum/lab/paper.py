"""The paper's method, ready to use: a graph neural network's verdict, then a linear regression for each regime.

The abstract (doi 10.1109/ICDCS54860.2022.00092) names two stages: a graph neural network detects whether a model
triggers memory over-commitment; operator-level latency models, combined by linear regression, give the latency. It does
not say what else enters the regression. Here that is, for over-committed networks, the part of the working set that
does not fit into the EPC, as the first stage estimates it. No page trace is used. Predicting needs neither PyTorch nor
scikit-learn.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sectum.enclave.profile import Profile
from sectum.errors import ArtefactInvalid, UsageError
from sectum.graph.ir import Graph
from sectum.lab.detector import Detector, shipped_for
from sectum.lab.detector.detector import TRAIN_AGAIN
from sectum.lab.detector.features import extract
from sectum.ort.costs import require_supported
from sectum.predict import Predictor
from sectum.predict.artefact import read_checked, read_manifest
from sectum.predict.cost import SOFTEPC
from sectum.predict.method import batch_of
from sectum.predict.prediction import MethodPrediction, Overcommit

Coefficients = tuple[float, ...]

_LENGTHS = {"native": 2, "fits": 2, "pages": 3}


@dataclass(frozen=True)
class Regressions:
    """Linear regressions of normalized latency, one for each regime.

    Attributes:
        native: outside enclaves: coefficients of the sum of operator latencies, and of 1.
        fits: in an enclave that holds the working set: the same two.
        pages: in an enclave that does not: the same two, and that of a byte which does not fit.
    """

    native: Coefficients
    fits: Coefficients
    pages: Coefficients

    def latency(self, operators: float, over_commitment: float | None, paged_bytes: float) -> float:
        """Normalized latency of a network.

        Args:
            operators: sum of its operators' normalized latencies.
            over_commitment: its probability; None outside enclaves.
            paged_bytes: the part of the working set that does not fit.
        """
        if over_commitment is None:
            return float(np.dot(self.native, (operators, 1.0)))
        if over_commitment < 0.5:
            return float(np.dot(self.fits, (operators, 1.0)))
        return float(np.dot(self.pages, (operators, 1.0, paged_bytes)))

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Regressions:
        """Read what ``dataclasses.asdict`` gives.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        found = {name: tuple(float(value) for value in stored[name]) for name in _LENGTHS}
        for name, values in found.items():
            if len(values) != _LENGTHS[name] or not all(math.isfinite(value) and value >= 0 for value in values):
                raise ValueError(f"'{name}' has not {_LENGTHS[name]} coefficients of 0 and more")
        return cls(**found)


@dataclass(frozen=True, slots=True)
class PaperMemory:
    """The working set as the graph network estimates it, against the EPC; None outside enclaves."""

    working_set_bytes: int
    epc_bytes: int | None
    margin_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperPrediction(MethodPrediction):
    """An answer of the paper's method: no interval, no parts by cause and no layers, which it does not give."""

    memory: PaperMemory


class PaperMethod:
    """A `sectum.predict.method.LatencyMethod` with the shipped detector and regressions, read at their first use.

    Args:
        predictor: gives the optimized graph and its operators' native latencies, and knows the machine.
    """

    name = "paper"

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(
        self, graph: Graph, profile: Profile, *, threads: int = 1, native_ms: float | None = None, strict: bool = False
    ) -> PaperPrediction:
        """Predict one steady-state inference.

        Args:
            graph: the network as it was read.
            profile: the enclave: the software enclave with any EPC, or none.
            threads: compute threads of the runtime.
            native_ms: the method has no use for it and refuses it.
            strict: refuse operators that have no cost of their own.

        Raises:
            OperatorUnsupported: strict, and there is one.
            UsageError: another enclave, or a native latency is given.
            ArtefactInvalid: the shipped detector or regressions are damaged.
        """
        if profile.tee or (profile.epc_bytes is not None and profile.name != SOFTEPC):
            raise UsageError(
                f"the paper's method learned from the software enclave and cannot predict '{profile.name}': "
                f"choose the enclave '{SOFTEPC}', or the method page-model"
            )
        if native_ms is not None:
            raise UsageError("the paper's method predicts the native latency itself: give none, or use page-model")
        if strict:
            require_supported(graph)
        prepared = self._predictor.prepare(graph, threads=threads)
        calibration, operators = self._predictor.calibration, self._predictor.operators
        unit_ms = operators.reference_ms if calibration is None else calibration.references.products_ms
        total = float(prepared.native_ms.sum()) / unit_ms
        found = self._detector.working_sets([extract(prepared.optimized)])
        working_set_bytes = round(float(found.n_bytes()[0]))
        epc_bytes = profile.epc_bytes
        probability = None if epc_bytes is None else float(found.over_commitment([epc_bytes])[0])
        paged_bytes = 0.0 if epc_bytes is None else float(max(0, working_set_bytes - epc_bytes))
        return PaperPrediction(
            model=graph.name,
            enclave=profile.name,
            machine=self._predictor.machine,
            calibrated=calibration is not None,
            batch=batch_of(graph),
            threads=threads,
            latency_ms=self._regressions.latency(total, probability, paged_bytes) * unit_ms,
            native_ms=self._regressions.latency(total, None, 0.0) * unit_ms,
            native_source="predicted",
            overcommit=Overcommit(
                predicted=probability is not None and probability >= 0.5, probability=probability or 0.0
            ),
            memory=PaperMemory(
                working_set_bytes, epc_bytes, None if epc_bytes is None else epc_bytes - working_set_bytes
            ),
            notes=_notes(threads),
        )

    @cached_property
    def _detector(self) -> Detector:
        return Detector.load(shipped_for(self._predictor.cpu))

    @cached_property
    def _regressions(self) -> Regressions:
        folder = self._detector.folder
        manifest = read_manifest(folder / "manifest.json")
        try:
            stored = manifest["regressions"]
            return Regressions.from_json(json.loads(read_checked(folder, str(stored["file"]), str(stored["sha256"]))))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtefactInvalid(f"{folder}: no regressions that can be used ({error!r}); {TRAIN_AGAIN}") from error


def _notes(threads: int) -> tuple[str, ...]:
    if threads == 1:
        return ()
    return ("the method learned paging from inferences with one compute thread; with more it is less certain",)
