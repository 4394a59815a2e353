"""What the zoo's tests share: running a model in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

Run = Callable[[bytes, int, int], NDArray[np.float32]]


@pytest.fixture(scope="session")
def run_model() -> Run:
    """Run a model on (batch, 3, resolution, resolution) normal numbers; returns its output."""

    def run(model: bytes, resolution: int, batch: int) -> NDArray[np.float32]:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        shape = (batch, 3, resolution, resolution)
        pictures = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
        (output,) = session.run(None, {"input": pictures})
        return np.asarray(output)

    return run
