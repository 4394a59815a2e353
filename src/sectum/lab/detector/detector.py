"""The detector as it is shipped: a graph neural network as ONNX, with its calibration in a manifest.

Loading and using it imports ONNX Runtime, and nothing that trains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sectum.errors import ArtefactInvalid, UsageError
from sectum.lab.detector.features import GraphFeatures, schema_hash, together
from sectum.ort.cpu import Cpu
from sectum.predict.artefact import read_manifest, read_session
from sectum.predict.overcommit import ErrorDistribution

_PAPER = Path(__file__).parent.parent / "artefacts" / "paper"
ARTEFACTS = {Cpu.AVX2: _PAPER / "avx2", Cpu.AVX512: _PAPER / "avx512"}
"""Folders by the kind of CPU, which decides what the runtime executes."""
TRAIN_AGAIN = "train it again (python -m sectum.lab.training.paper) or install the matching version"

_GRAPHS_AT_ONCE = 64


@dataclass(frozen=True)
class WorkingSets:
    """Estimated working sets of several networks; they do not depend on the EPC.

    Attributes:
        log_bytes: logarithms of the network's estimates, shape ``(graphs,)``.
        scale: of their errors, shape ``(graphs,)``.
        errors: distribution of the errors on held-out networks.
    """

    log_bytes: NDArray[np.float64]
    scale: NDArray[np.float64]
    errors: ErrorDistribution

    def of(self, rows: Sequence[int]) -> WorkingSets:
        """Those of some networks, each as often as it is named."""
        return WorkingSets(self.log_bytes[rows], self.scale[rows], self.errors)

    def n_bytes(self, share: float = 0.5) -> NDArray[np.float64]:
        """Size below which each working set lies with that probability; shape ``(graphs,)``."""
        return np.exp(self.log_bytes) * self.errors.factor(self.scale, share)

    def over_commitment(self, epc_bytes: ArrayLike) -> NDArray[np.float64]:
        """Probability that each working set is larger than its EPC; shape ``(graphs,)``."""
        return self.errors.probability(self.log_bytes - np.log(np.asarray(epc_bytes, np.float64)), self.scale)


@dataclass(frozen=True)
class Detector:
    """Predicts working sets and over-commitment with a graph neural network that sees operators and data flow only.

    Attributes:
        folder: of the artefact.
        file: name and SHA-256 of the network's file.
        errors: distribution of its errors on held-out networks.
        machine: the machine whose measurements it learned from.
        cpu: its kind of CPU.
    """

    folder: Path
    file: tuple[str, str]
    errors: ErrorDistribution
    machine: str
    cpu: Cpu

    @classmethod
    def load(cls, folder: Path | None = None) -> Detector:
        """Read the manifest and check that the network was trained with the features of this version.

        Args:
            folder: of the artefact; by default the shipped one for this machine's kind of CPU.

        Raises:
            ArtefactInvalid: a file is missing, damaged, or made with other features.
        """
        folder = folder or shipped_for(Cpu.here())
        manifest = read_manifest(folder / "manifest.json")
        if manifest.get("schema_sha256") != schema_hash():
            raise ArtefactInvalid(f"{folder}: trained with other features than this version computes; {TRAIN_AGAIN}")
        try:
            stored = manifest["detector"]
            return cls(
                folder=folder,
                file=(str(stored["file"]), str(stored["sha256"])),
                errors=ErrorDistribution.from_json(stored["calibration"]),
                machine=str(manifest["machine"]),
                cpu=Cpu.of_block(int(manifest["nchwc_block"])),
            )
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise ArtefactInvalid(
                f"{folder / 'manifest.json'}: {error!r} is missing or has the wrong type; reinstall Sectum"
            ) from error

    def working_sets(self, features: Sequence[GraphFeatures]) -> WorkingSets:
        """Estimate the working sets of graphs that were optimized for the detector's kind of CPU.

        Raises:
            ArtefactInvalid: the network's file is damaged.
        """
        return WorkingSets(*estimates(lambda joined: self._session.run(None, joined.tensors()), features), self.errors)

    @cached_property
    def _session(self) -> Any:
        # With several threads ScatterND would lose terms of the sums by index: answers would differ by chance.
        return read_session(self.folder, *self.file)


def estimates(
    run: Callable[[GraphFeatures], Sequence[ArrayLike]], features: Sequence[GraphFeatures]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logarithms of the estimated bytes, and the scales of their errors, both of shape ``(graphs,)``.

    Args:
        run: the network: logarithms of working set / first estimate, and of the scales.
        features: of any number of graphs.
    """
    log_bytes, scales = [np.zeros(0)], [np.zeros(0)]
    for start in range(0, len(features), _GRAPHS_AT_ONCE):
        joined = together(features[start : start + _GRAPHS_AT_ONCE])
        log_ratio, log_scale = run(joined)
        log_bytes.append(np.log(joined.first_estimate_bytes) + np.asarray(log_ratio, np.float64))
        scales.append(np.exp(np.asarray(log_scale, np.float64)))
    return np.concatenate(log_bytes), np.concatenate(scales)


def shipped_for(cpu: Cpu) -> Path:
    """Folder of the artefact for a kind of CPU, or for the kind that is most like it."""
    return ARTEFACTS.get(cpu.without_amx, ARTEFACTS[Cpu.AVX2])
