"""Trained networks with dynamic shapes, as a package ships them: what ONNX Runtime computes has the shapes found."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from sectum.errors import ShapeUnbound
from sectum.graph import read
from sectum.ort import coverage

SPEC = importlib.util.find_spec("rapidocr")
pytestmark = pytest.mark.skipif(SPEC is None, reason="pip install --no-deps rapidocr: its wheel carries the models")


@pytest.mark.parametrize(
    ("name", "shape"),
    [("PP-OCRv6_det_small", (1, 3, 320, 320)), ("PP-OCRv6_rec_small", (2, 3, 48, 320)),
     ("ch_ppocr_mobile_v2.0_cls_mobile", (3, 3, 48, 192))],
)  # fmt: skip
def test_ocr_networks(name: str, shape: tuple[int, ...]) -> None:
    """Detection, recognition and orientation of text are read, covered and run at a shape that the file leaves open."""
    assert SPEC is not None
    assert SPEC.origin is not None
    path = Path(SPEC.origin).parent / "models" / f"{name}.onnx"
    with pytest.raises(ShapeUnbound, match="--input x="):
        read(path)
    model = read(path, inputs={"x": shape})
    assert not coverage(model.graph).unsupported
    session = onnxruntime.InferenceSession(model.bound_bytes(), providers=["CPUExecutionProvider"])
    results = session.run(None, {"x": np.zeros(shape, np.float32)})
    assert [r.shape for r in results] == [model.graph.tensors[n].shape for n in model.graph.outputs]
