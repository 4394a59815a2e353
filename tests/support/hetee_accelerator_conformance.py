"""Conformance tests for accelerators.

Subclass `AcceleratorConformance` in a test module and define its accelerator::

    class TestMine(AcceleratorConformance):
        @pytest.fixture
        def accelerator(self) -> Accelerator:
            return MyAccelerator("mine:0")

If this machine does not have the accelerator, skip in that fixture with the reason.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from numpy.typing import NDArray

from sectum.hetee.data_plane.messages import Pace, Work
from sectum.hetee.errors import Refusal, WorkRefused, refusal
from sectum.hetee.training.job import LABELS, LOSS, STATE, Optimiser, TrainingJob, write_job
from sectum.hetee.worker.accelerators.protocol import Accelerator, Stop
from sectum.hetee.worker.models import CheckedModel, inspect
from sectum.hetee.worker.training.checked_job import CheckedJob, inspect_job
from sectum.testing.tiny_models import convolutions, endless_loop, matrix_chain

Inputs = dict[str, NDArray[np.float32]]

_SOON_S = 5.0  # generous: the test checks that a call ends, not how fast
_COMPUTE_MS = 30


def _pace(accelerator: Accelerator, compute_ms: float = _COMPUTE_MS) -> Pace | None:
    if not accelerator.paced:
        return None
    return Pace(preprocess_us=0, compute_us=round(compute_ms * 1000), source="conformance")


class AcceleratorConformance:
    """Tests that each implementation passes."""

    @pytest.fixture
    def accelerator(self) -> Accelerator:
        """The accelerator under test. Each suite defines it."""
        raise NotImplementedError("give this suite a fixture named accelerator")

    @pytest.fixture
    def model(self) -> CheckedModel:
        """A model with two convolutions; input ``x`` [1, 8, 32, 32], output ``y`` [1, 10]."""
        return inspect(convolutions())

    @pytest.fixture
    def inputs(self) -> Inputs:
        """One input of the model."""
        return {"x": np.random.default_rng(3).random((1, 8, 32, 32), np.float32)}

    def test_names_itself(self, accelerator: Accelerator) -> None:
        """The accelerator states its name, its kind and whether it is paced."""
        assert isinstance(accelerator, Accelerator)
        assert re.fullmatch(r"[a-z]+:\d+", accelerator.name)
        assert accelerator.name.partition(":")[0] == accelerator.kind
        assert isinstance(accelerator.paced, bool)

    def test_gives_the_outputs_asked_for(self, accelerator: Accelerator, model: CheckedModel, inputs: Inputs) -> None:
        """Outputs come in the order of their names, with the model's shapes and types."""
        (y,) = accelerator.load(model).run(inputs, ("y",), Stop(), _pace(accelerator))
        assert y.shape == (1, 10)
        assert y.dtype == np.float32

    def test_computes_or_waits(self, accelerator: Accelerator, model: CheckedModel, inputs: Inputs) -> None:
        """It computes what ONNX Runtime computes on a CPU; or it is paced, and waits for the given time."""
        import onnxruntime

        begun_s = time.monotonic()
        (y,) = accelerator.load(model).run(inputs, ("y",), Stop(), _pace(accelerator))
        if accelerator.paced:
            assert time.monotonic() - begun_s >= _COMPUTE_MS / 1e3
            return
        session = onnxruntime.InferenceSession(model.content, providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(y, session.run(None, inputs)[0], rtol=1e-4, atol=1e-5)

    def test_keeps_models_apart(self, accelerator: Accelerator, model: CheckedModel, inputs: Inputs) -> None:
        """Two loaded models do not affect each other."""
        other = inspect(matrix_chain(2, 16))
        first, second = accelerator.load(model), accelerator.load(other)
        x = np.ones((1, 16), np.float32)
        assert second.run({"x": x}, ("y",), Stop(), _pace(accelerator))[0].shape == (1, 16)
        assert first.run(inputs, ("y",), Stop(), _pace(accelerator))[0].shape == (1, 10)

    def test_stops_when_asked(self, accelerator: Accelerator) -> None:
        """An endless computation ends soon after its stop is set, and at once if it was set before."""
        loaded, inputs = accelerator.load(inspect(endless_loop())), {"x": np.zeros(1, np.float32)}
        for delay_s in (0.1, 0.0):
            stop = Stop()
            timer = threading.Timer(delay_s, stop.set)
            if delay_s:
                timer.start()
            else:
                stop.set()
            begun_s = time.monotonic()
            with suppress(WorkRefused):  # or it gives what it has
                loaded.run(inputs, ("y",), stop, _pace(accelerator, 600_000))
            assert time.monotonic() - begun_s < _SOON_S

    def test_refuses_what_it_cannot_run(self, accelerator: Accelerator, model: CheckedModel, inputs: Inputs) -> None:
        """A wrong shape or an unknown output is refused, and the model stays usable."""
        loaded = accelerator.load(model)
        for wrong, names in (({"x": inputs["x"][:, :7]}, ("y",)), (inputs, ("nothing",))):
            with pytest.raises(WorkRefused) as caught:
                loaded.run(wrong, names, Stop(), _pace(accelerator))
            assert caught.value.code in (Refusal.INPUT_REFUSED, Refusal.COMPUTE_FAILED)
        assert loaded.run(inputs, ("y",), Stop(), _pace(accelerator))

    def test_reset_says_what_was_cleaned(self, accelerator: Accelerator, model: CheckedModel, inputs: Inputs) -> None:
        """A reset says what it did, makes earlier models unusable, and leaves the accelerator ready for new ones."""
        loaded = accelerator.load(model)
        loaded.run(inputs, ("y",), Stop(), _pace(accelerator))
        said = accelerator.reset()
        assert "1 model" in said
        assert len(said) <= 256
        with pytest.raises(WorkRefused) as caught:
            loaded.run(inputs, ("y",), Stop(), _pace(accelerator))
        assert caught.value.code is Refusal.COMPUTE_FAILED
        assert accelerator.load(model).run(inputs, ("y",), Stop(), _pace(accelerator))
        accelerator.reset()
        assert "0 models" in accelerator.reset()

    @pytest.fixture
    def job(self, accelerator: Accelerator, model: CheckedModel) -> CheckedJob:
        """A job that trains the model; a real one needs PyTorch."""
        if not accelerator.paced:
            pytest.importorskip("torch", reason="PyTorch is an extra")
        content = write_job(TrainingJob(optimiser=Optimiser(kind="sgd", rate=0.01), onnx=(model.sha256,)))
        return inspect_job(content, hashlib.sha256(content).digest(), {model.sha256: model})

    @pytest.mark.slow
    def test_a_job_goes_on_after_it_was_parked(self, accelerator: Accelerator, job: CheckedJob, inputs: Inputs) -> None:
        """A job that left the accelerator and comes back does its next step, and no step twice."""
        arrays = {**inputs, LABELS: np.zeros(1, np.int64)}
        first = accelerator.train(job)
        for step in (1, 2):
            answer = first.run(_train(step), arrays, Stop(), _nothing, _pace(accelerator, 1))
            assert answer[LOSS].shape == ()
            assert answer[STATE].shape == (0,)
        first.park()
        second = accelerator.train(job)
        with pytest.raises(WorkRefused) as caught:
            second.run(_train(2), arrays, Stop(), _nothing, _pace(accelerator, 1))
        assert caught.value.code is Refusal.INPUT_REFUSED
        assert second.run(_train(3), arrays, Stop(), _nothing, _pace(accelerator, 1))

    @pytest.mark.slow
    def test_a_step_that_nobody_wants_is_not_done(
        self, accelerator: Accelerator, job: CheckedJob, inputs: Inputs
    ) -> None:
        """A step whose answer was given by someone else meanwhile counts for nothing: it can be done again."""
        arrays = {**inputs, LABELS: np.zeros(1, np.int64)}
        loaded = accelerator.train(job)

        def answered() -> None:
            raise refusal(Refusal.CANCELLED, "answered")

        with pytest.raises(WorkRefused):
            loaded.run(_train(1), arrays, Stop(), answered, _pace(accelerator, 1))
        assert loaded.run(_train(1), arrays, Stop(), _nothing, _pace(accelerator, 1))


def _train(step: int) -> Work:
    return Work(kind="train", step=step)


def _nothing() -> None:
    """Commit a step: nobody else answers."""
