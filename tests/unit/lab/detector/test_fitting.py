"""Training the graph network."""

from __future__ import annotations

import json

import numpy as np
import onnxruntime
import pytest

from sectum.errors import UsageError

pytest.importorskip("torch", reason="graph networks need PyTorch: install sectum[learn]")

from sectum.lab.detector.features import together
from sectum.lab.detector.fitting import fit
from sectum.lab.detector.network import WorkingSetNetwork, onnx_bytes, torch_tensors
from sectum.predict.overcommit import ErrorDistribution

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fitted(examples):
    return fit(examples[:24], examples, visits=128)


@pytest.fixture(scope="module")
def exported(examples, fitted):
    """That network as an ONNX file, traced with three graphs."""
    return onnx_bytes(fitted.network, [features for features, _ in examples[:3]])


def test_an_untrained_network_gives_the_first_estimate(examples):
    """Before training the ratio is near 1, so that training starts from the first estimate."""
    log_ratio, _ = WorkingSetNetwork()(**torch_tensors(together([features for features, _ in examples])))
    assert log_ratio.abs().max() < 0.05


def test_training_removes_a_bias(examples):
    """Working sets that are all a fifth larger than the first estimate are found after training."""
    larger = [(features, 1.2 * float(features.first_estimate_bytes[0])) for features, _ in examples]
    found = fit(larger, larger, visits=1000).working_sets([features for features, _ in larger])
    assert np.allclose(found.n_bytes(), [size for _, size in larger], rtol=0.1)


def test_training_is_repeatable(examples, fitted):
    """The same arguments give the same network, and leave PyTorch's own random state alone."""
    features = [one for one, _ in examples]
    again = fit(examples[:24], examples, visits=128)
    assert np.array_equal(again.working_sets(features).log_bytes, fitted.working_sets(features).log_bytes)


def test_the_onnx_file_gives_the_same_answers(examples, fitted, exported):
    """ONNX Runtime computes what PyTorch does, for other numbers of graphs than it was traced with."""
    features = [one for one, _ in examples]
    session = onnxruntime.InferenceSession(exported)
    for several in (features[:1], features[:7]):
        log_ratio, log_scale = session.run(None, together(several).tensors())
        expected = fitted.working_sets(several)
        first = np.log([float(one.first_estimate_bytes[0]) for one in several])
        assert np.allclose(first + log_ratio, expected.log_bytes, atol=1e-4)
        assert np.allclose(np.exp(log_scale), expected.scale, rtol=1e-4)


def test_the_onnx_file_holds_no_paths(exported):
    """Nothing of the machine that trained is in the file."""
    assert b"site-packages" not in exported
    assert b".py" not in exported


def test_too_little_to_learn_from_is_refused(examples):
    """The errors say what is missing."""
    with pytest.raises(UsageError, match="no measured network"):
        fit([], examples, visits=32)
    with pytest.raises(UsageError, match="calibrating"):
        fit(examples, examples[:5], visits=32)


def test_calibrations_are_json(fitted):
    """What the manifest stores of a calibration survives JSON."""
    stored = json.loads(json.dumps(fitted.errors.to_json()))
    assert np.allclose(ErrorDistribution.from_json(stored).errors, fitted.errors.errors, atol=1e-6)
