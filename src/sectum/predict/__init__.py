"""Latency in an enclave: operator times learned, page faults modelled, costs from the enclave's profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sectum.ort.cpu import Cpu
from sectum.predict.calibration import load as load_calibration
from sectum.predict.operator_model import OperatorModel, shipped_for
from sectum.predict.prediction import Advice, Prediction
from sectum.predict.predictor import Predictor, sweep

if TYPE_CHECKING:
    from sectum.predict.search import Candidate, Candidates, predict_many

__all__ = [
    "Advice",
    "Candidate",
    "Candidates",
    "OperatorModel",
    "Prediction",
    "Predictor",
    "load_predictor",
    "predict_many",
    "shipped_for",
    "sweep",
]


def load_predictor(*, calibration: bool = True) -> Predictor:
    """The shipped operator models for this kind of processor, with the machine's calibration where there is one.

    Args:
        calibration: False ignores a stored calibration.

    Raises:
        ArtefactInvalid: the shipped models are damaged.
        CalibrationInvalid: the stored calibration is damaged or from another version.
    """
    found = load_calibration() if calibration else None
    if found is not None:
        return Predictor(OperatorModel.load(shipped_for(found.cpu)), found)
    operators, here = OperatorModel.load(), Cpu.here()
    return Predictor(operators, cpu=here if here.without_amx is operators.cpu else None)


def __getattr__(name: str) -> object:
    if name not in ("Candidate", "Candidates", "predict_many"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sectum.predict import search  # it loads the zoo, which a single prediction does not need

    return getattr(search, name)
