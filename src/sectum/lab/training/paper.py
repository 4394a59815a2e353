"""Trains the shipped artefacts of the paper's method: graph network and regressions; needs the extra ``learn``.

``python -m sectum.lab.training.paper --data data/networks --cpu AVX512``
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch

from sectum.errors import UsageError
from sectum.lab.detector import ARTEFACTS
from sectum.lab.detector.features import SCHEMA_VERSION, schema_hash
from sectum.lab.detector.fitting import FittedDetector
from sectum.lab.detector.network import onnx_bytes
from sectum.lab.evaluation.prepare import prepare, usable_cpus
from sectum.lab.evaluation.registry import PAPER, Entry
from sectum.lab.evaluation.running import predictions
from sectum.lab.evaluation.stored import dataset_digest
from sectum.lab.evaluation.summary import split_figures
from sectum.lab.evaluation.truth import truth
from sectum.lab.learners.graph_verdict import FittedGraphVerdict, detector_of
from sectum.lab.learners.measured import MeasuredNetwork, read, without_repeats
from sectum.lab.learners.native import Shared
from sectum.lab.learners.splits import Fold, fold_numbers
from sectum.lab.learners.two_stage import TwoStage, fit_regressions
from sectum.lab.training.support import stored
from sectum.ort.cpu import Cpu
from sectum.predict.operator_model import OperatorModel, shipped_for

FOLDS = 6
"""One in so many networks is held out to judge by."""
EPOCHS = 32
"""How often each network is seen in training."""
NETWORK_FILE, REGRESSIONS_FILE = "gnn.onnx", "regressions.json"

_GRAPHS_TO_TRACE = 3


@dataclass(frozen=True)
class _Trained:
    """A first stage that is trained already."""

    verdict: FittedGraphVerdict

    def fit(self, _networks: Sequence[MeasuredNetwork]) -> FittedGraphVerdict:
        return self.verdict


def train(data: Path, out: Path, cpu: Cpu) -> dict[str, Any]:
    """Train both stages, judge them on held-out networks, write the artefact; returns the manifest.

    The shipped graph network is the one that is judged. The judged regressions and operator models are fitted on the
    same training networks as it; the shipped regressions on all networks, with the shipped operator models.

    Args:
        data: folder of the dataset.
        out: folder of the artefact.
        cpu: networks of this kind of CPU are learned from.

    Raises:
        UsageError: the dataset has no networks of that kind of CPU, or those of several machines.
        DatasetInvalid: the dataset is damaged.
    """
    begin_s = monotonic()
    networks = [one for one in without_repeats(read(data)) if one.cpu is cpu]
    machines = sorted({network.machine for network in networks})
    if len(machines) != 1:
        raise UsageError(
            f"{data} has networks with {cpu.name} of {', '.join(machines) or 'no machine'}: "
            "give a dataset with those of one machine"
        )
    prepare(networks, workers=usable_cpus(), names=("features", "graph_features"))
    numbers = fold_numbers(networks, folds=FOLDS)
    fold = Fold("held out", *(tuple(np.flatnonzero(mask).tolist()) for mask in (numbers > 0, numbers == 0)))
    detector = detector_of([networks[index] for index in fold.train], EPOCHS)
    verdict = FittedGraphVerdict({cpu: detector})
    entry = Entry(PAPER, "", partial(_learner, _Trained(verdict)))
    predicted = predictions(networks, [entry], {"random": [fold]})["random"][PAPER]
    out.mkdir(parents=True, exist_ok=True)
    regressions = fit_regressions(networks, _sums(networks, cpu), verdict)
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "schema_sha256": schema_hash(),
        "machine": machines[0],
        "nchwc_block": cpu.nchwc_block,
        "detector": {
            **stored(out / NETWORK_FILE, _exported(detector, networks)),
            "calibration": detector.errors.to_json(),
        },
        "regressions": stored(out / REGRESSIONS_FILE, json.dumps(asdict(regressions), indent=1).encode() + b"\n"),
        "training": {
            "kind": "measured",
            "dataset_sha256": dataset_digest(data),
            "networks": len(networks),
            "held_out_networks": len(fold.test),
            "threads": sorted({network.threads for network in networks}),
            "epochs": EPOCHS,
            "torch": torch.__version__,
            "seconds": round(monotonic() - begin_s),
        },
        "accuracy": {
            name: _plain(split_figures(truth(networks), predicted, split, detailed=False))
            for name, split in (("held_out", "random"), ("boundary", "boundary"))
        },
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def _learner(verdict: _Trained, shared: Shared) -> TwoStage:
    return TwoStage(PAPER, shared, verdict)


def _sums(networks: Sequence[MeasuredNetwork], cpu: Cpu) -> Any:
    """Sums of normalized operator latencies by the shipped operator models, shape ``(networks,)``."""
    operators = OperatorModel.load(shipped_for(cpu))
    times = [operators.overheads.started(operators.normalized_latencies(network.features)) for network in networks]
    return np.array([its.sum() for its in times])


def _exported(detector: FittedDetector, networks: Sequence[MeasuredNetwork]) -> bytes:
    traced = [network.graph_features for network in networks if len(network.graph_features.edges)]
    return onnx_bytes(detector.network, traced[:_GRAPHS_TO_TRACE])


def _plain(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures themselves and those by regime; no intervals, and no figures by family."""
    regimes = {name: _plain(its) for name, its in figures.get("regimes", {}).items()}
    kept = {name: value for name, value in figures.items() if isinstance(value, int | float)}
    return kept | ({"regimes": regimes} if regimes else {})


def main(arguments: Sequence[str] | None = None) -> int:
    """Train from the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a dataset: sectum dataset collect")
    parser.add_argument("--cpu", choices=[cpu.name for cpu in ARTEFACTS], required=True)
    parser.add_argument("--out", type=Path, help="folder of the artefact; by default that of the package")
    options = parser.parse_args(arguments)
    cpu = Cpu[options.cpu]
    manifest = train(options.data, options.out or ARTEFACTS[cpu], cpu)
    json.dump(manifest["accuracy"], sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
