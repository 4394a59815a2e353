"""The detector as it is shipped: one ONNX file for each form that has a network, calibrations in a manifest.

Reading and asking it imports ONNX Runtime and nothing that trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.errors import ArtefactInvalid, UsageError
from sectum.lab.detector.features import GraphFeatures, extract, schema_hash, together
from sectum.ort.cpu import Cpu
from sectum.ort.optimized import OptimizedGraph
from sectum.ort.page_trace import page_trace
from sectum.predict.artefact import read_checked, read_manifest
from sectum.predict.overcommit import ErrorDistribution
from sectum.units import PAGE_BYTES

ARTEFACTS = Path(__file__).parent.parent / "artefacts" / "detector"
SHIPPED = {8: ARTEFACTS / "avx2", 16: ARTEFACTS / "avx512"}
"""Folders by the floats in a block of the runtime's blocked layout: what is executed differs, and what it touches."""

GNN, GNN_PAGE_MODEL, PAGE_MODEL = "gnn", "gnn+page model", "page model"
FORMS = (GNN, GNN_PAGE_MODEL, PAGE_MODEL)
"""The network sees the graph alone; it corrects the page-replacement model; that model's working set is taken as is.
All three have probabilities calibrated on measured networks."""

_MOST_OPERATORS_TOGETHER = 4096
"""In one run of the network: enough to fill it, little enough for its messages to stay in the caches."""


@dataclass(frozen=True, slots=True)
class Detection:
    """What is said of one network under one size of EPC.

    Attributes:
        probability: that a steady-state inference is over-committed.
        working_set_bytes: the median of what the working set may be.
        low_bytes: below which it is with a probability of 5 %.
        high_bytes: above which it is with a probability of 5 %.
        epc_bytes: that was asked about.
    """

    probability: float
    working_set_bytes: int
    low_bytes: int
    high_bytes: int
    epc_bytes: int

    @property
    def over_committed(self) -> bool:
        """Whether that is likelier than not."""
        return self.probability > 0.5


@dataclass(frozen=True)
class Estimates:
    """What does not depend on the EPC, so that many sizes can be asked about.

    Attributes:
        log_bytes: logarithm of the estimated working set, shape ``(graphs,)``.
        scale: of its error, shape ``(graphs,)``.
    """

    log_bytes: NDArray[np.float64]
    scale: NDArray[np.float64]


@dataclass(frozen=True)
class Detector:
    """Says whether networks page.

    Attributes:
        folder: where the artefact lies.
        form: one of `FORMS`.
        file: name and SHA-256 of the network's file; None for the page model.
        distribution: of the errors on networks that it was not trained on.
        machine: whose measurements it learned from.
        nchwc_block: floats in a block of the runtime's blocked layout there.
        training: how it was made: counts, digests, figures of its accuracy.
    """

    folder: Path
    form: str
    file: tuple[str, str] | None
    distribution: ErrorDistribution
    machine: str
    nchwc_block: int
    training: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path | None = None, form: str | None = None) -> Detector:
        """Read the manifest and check that the features are today's.

        Args:
            folder: of the artefact; by default the shipped one for this machine's kind of processor.
            form: one of `FORMS`; by default the one that was best on networks not trained on.

        Raises:
            ArtefactInvalid: a file is missing, damaged, or made with other features.
            UsageError: no such form.
        """
        folder = folder or SHIPPED.get(Cpu.here().nchwc_block, SHIPPED[8])
        path = folder / "manifest.json"
        manifest = read_manifest(path)
        if manifest.get("schema_sha256") != schema_hash():
            raise ArtefactInvalid(
                f"{folder}: this detector was trained with other features than this version of Sectum computes; "
                "train it again (python -m sectum.lab.detector.training) or install the matching version"
            )
        try:
            form = str(manifest["default"]) if form is None else form
            if form not in FORMS:
                raise UsageError(f"no detector of the form '{form}': there are {', '.join(FORMS)}")
            stored = manifest["forms"][form]
            file = (str(stored["file"]), str(stored["sha256"])) if form != PAGE_MODEL else None
            return cls(
                folder=folder,
                form=form,
                file=file,
                distribution=ErrorDistribution.from_json(stored["calibration"]),
                machine=str(manifest["machine"]),
                nchwc_block=int(manifest["nchwc_block"]),
                training=dict(manifest["training"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtefactInvalid(f"{path}: {error!r} is missing or has the wrong type; reinstall Sectum") from error

    def detect(
        self,
        graphs: Sequence[OptimizedGraph],
        epc_bytes: Sequence[int],
        page_model_bytes: Sequence[int] | None = None,
    ) -> list[Detection]:
        """Judge several networks, each under a size of EPC.

        Args:
            graphs: what the runtime executes (``sectum.ort.optimize.runtime_graph``), with one compute thread.
            epc_bytes: protected memory, one size for each graph.
            page_model_bytes: working sets of the page-replacement model, where the caller has them already.

        Raises:
            UsageError: the arguments do not fit together, or a size is not positive.
            ArtefactInvalid: the network's file is damaged.
        """
        if len(graphs) != len(epc_bytes):
            raise UsageError(f"{len(graphs)} graphs and {len(epc_bytes)} sizes of EPC: give one size for each graph")
        if page_model_bytes is not None and len(page_model_bytes) != len(graphs):
            raise UsageError(f"{len(graphs)} graphs and {len(page_model_bytes)} working sets: give one for each graph")
        if wrong := [size for size in epc_bytes if size <= 0]:
            raise UsageError(f"an EPC of {wrong[0]} bytes: give a positive size")
        estimates = self.estimate(graphs, page_model_bytes)
        log_occupation = estimates.log_bytes - np.log(np.asarray(epc_bytes, dtype=np.float64))
        probabilities = self.distribution.probability(log_occupation, estimates.scale)
        sizes = [
            np.exp(estimates.log_bytes) * self.distribution.factor(estimates.scale, share)
            for share in (0.5, 0.05, 0.95)
        ]
        return [
            Detection(float(probability), round(middle), round(low), round(high), epc)
            for probability, middle, low, high, epc in zip(probabilities, *sizes, epc_bytes, strict=True)
        ]

    def estimate(self, graphs: Sequence[OptimizedGraph], page_model_bytes: Sequence[int] | None = None) -> Estimates:
        """Do the part that does not depend on the EPC; arguments as for `detect`."""
        if self.form != GNN and page_model_bytes is None:
            page_model_bytes = [page_trace(graph).pages * PAGE_BYTES for graph in graphs]
        if self.form == PAGE_MODEL:
            assert page_model_bytes is not None
            return Estimates(np.log(np.maximum(1.0, np.asarray(page_model_bytes, np.float64))), np.ones(len(graphs)))
        known = (
            page_model_bytes if self.form == GNN_PAGE_MODEL and page_model_bytes is not None else [None] * len(graphs)
        )
        return self.judge([extract(graph, size) for graph, size in zip(graphs, known, strict=True)])

    def judge(self, features: Sequence[GraphFeatures]) -> Estimates:
        """Do the network's part for graphs whose features are at hand."""
        log_bytes, scales = [np.zeros(0)], [np.zeros(0)]
        for batch in _batches(features):
            joined = together(batch)
            log_ratio, log_scale = self._session.run(None, joined.tensors())
            first = joined.page_model_bytes if self.form == GNN_PAGE_MODEL else joined.first_estimate_bytes
            log_bytes.append(np.log(first) + np.asarray(log_ratio, np.float64))
            scales.append(np.exp(np.asarray(log_scale, np.float64)))
        return Estimates(np.concatenate(log_bytes), np.concatenate(scales))

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        if self.file is None:
            raise UsageError(f"the form '{PAGE_MODEL}' has no network: load '{GNN}' or '{GNN_PAGE_MODEL}'")
        options = onnxruntime.SessionOptions()
        # Several threads lose terms where the runtime adds up rows by index (ScatterND): answers differ by chance.
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(
            read_checked(self.folder, *self.file), options, providers=["CPUExecutionProvider"]
        )


def _batches(features: Sequence[GraphFeatures]) -> Iterator[list[GraphFeatures]]:
    batch: list[GraphFeatures] = []
    operators = 0
    for one in features:
        if batch and operators + len(one.nodes) > _MOST_OPERATORS_TOGETHER:
            yield batch
            batch, operators = [], 0
        batch.append(one)
        operators += len(one.nodes)
    if batch:
        yield batch
