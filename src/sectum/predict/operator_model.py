"""The learned part: how long each operator takes outside an enclave.

Stored as one ONNX file per group of operators beside a ``manifest.json`` that holds their SHA-256, the feature
schema that they were trained with, the machine that they were trained on and how far off they were on networks that
they had not seen. Reading one imports ONNX Runtime and nothing that trains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sectum.errors import ArtefactInvalid
from sectum.predict.artefact import read_checked, read_manifest
from sectum.predict.features import OperatorFeatures, schema_hash

SHIPPED = Path(__file__).parent / "artefacts" / "operators"


@dataclass(frozen=True)
class OperatorModel:
    """Operator times in units of the reference kernel's time, one regressor per group.

    Attributes:
        folder: where the artefact lies.
        machine: the machine that it was trained on, in words.
        reference_ms: that machine's typical time of the reference kernel.
        most_threads: that operators were measured with.
        nchwc_block: floats in a block of the runtime's blocked layout there.
        native_sigma: standard deviation of log(measured / predicted) of whole networks not trained on.
        overhead_references: time per operator between its profile and its share of an inference, in reference units.
        page_factors: cost of a page by the group of operators that touches it, over the mean; of the software EPC.
        page_cost_sigma: standard deviation of log(measured / modelled) of latencies that page, their counts given.
        working_set_sigma: of log(measured / modelled working set).
        files: the ONNX file of each group and its SHA-256.
        training: how it was made: counts, versions, figures of its accuracy.
    """

    folder: Path
    machine: str
    reference_ms: float
    most_threads: int
    nchwc_block: int
    native_sigma: float
    overhead_references: float
    page_factors: Mapping[str, float]
    page_cost_sigma: float
    working_set_sigma: float
    files: Mapping[str, tuple[str, str]]
    training: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path = SHIPPED) -> OperatorModel:
        """Read the manifest and check that the schema is today's.

        Raises:
            ArtefactInvalid: a file is missing, damaged, or made with other features.
        """
        manifest = read_manifest(folder / "manifest.json")
        if manifest.get("schema_sha256") != schema_hash():
            raise ArtefactInvalid(
                f"{folder}: these operator models were trained with other features than this version of Sectum "
                "computes; train them again (python -m sectum.predict.training) or install the matching version"
            )
        try:
            return cls(
                folder=folder,
                machine=str(manifest["machine"]),
                reference_ms=float(manifest["reference_ms"]),
                most_threads=int(manifest["most_threads"]),
                nchwc_block=int(manifest["nchwc_block"]),
                native_sigma=float(manifest["native_sigma"]),
                overhead_references=float(manifest["overhead_references"]),
                page_factors={str(k): float(v) for k, v in manifest["page_factors"].items()},
                page_cost_sigma=float(manifest["page_cost_sigma"]),
                working_set_sigma=float(manifest["working_set_sigma"]),
                files={str(k): (str(v["file"]), str(v["sha256"])) for k, v in manifest["groups"].items()},
                training=dict(manifest["training"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtefactInvalid(f"{folder}/manifest.json: {error!r} is missing or has the wrong type") from error

    def references(self, features: OperatorFeatures) -> NDArray[np.float64]:
        """Time of each operator, in units of the reference kernel's time; shape ``(operators,)``."""
        correction = np.zeros(len(features.groups))
        groups = np.array(features.groups)
        for group in set(features.groups):
            chosen = np.flatnonzero(groups == group)
            (column,) = self._regressor(group).run(None, {"features": features.values[chosen]})
            correction[chosen] = np.asarray(column).reshape(-1)
        return with_overhead(features.roofline * np.exp(correction), self.overhead_references)

    def page_weights(self, features: OperatorFeatures) -> NDArray[np.float64]:
        """Cost of a page that each operator touches, over the mean; shape ``(operators,)``."""
        return np.array([self.page_factors.get(group, 1.0) for group in features.groups])

    @cached_property
    def _loaded(self) -> dict[str, Any]:
        return {}

    def _regressor(self, group: str) -> Any:
        """The session of a group, made at its first use: most networks need only some."""
        if group not in self._loaded:
            import onnxruntime

            if group not in self.files:
                raise ArtefactInvalid(f"{self.folder}: no model for '{group}' in it; train again")
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            options.log_severity_level = 3
            content = read_checked(self.folder, *self.files[group])
            self._loaded[group] = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return self._loaded[group]


def with_overhead(times: NDArray[np.float64], overhead: float) -> NDArray[np.float64]:
    """Operator times as they count in a whole inference; a negative overhead takes at most three quarters of each."""
    return np.maximum(times + overhead, times / 4)
