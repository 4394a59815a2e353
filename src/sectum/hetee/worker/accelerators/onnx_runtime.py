"""ONNX Runtime on a CPU, or on a CUDA GPU if the machine has one and onnxruntime-gpu is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as states

from sectum.hetee.data_plane.messages import Pace
from sectum.hetee.errors import Refusal, refusal
from sectum.hetee.worker.accelerators.protocol import Arrays, JobCopy, RunnableJob, Stop, unload_all
from sectum.hetee.worker.models import CheckedModel

if TYPE_CHECKING:
    from sectum.hetee.worker.training.checked_job import CheckedJob

_FATAL_ONLY = 4  # less severe messages quote names from the tenant's model
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_BAD_INPUT = (states.InvalidArgument, ValueError, TypeError)


class OnnxRuntimeAccelerator:
    """ONNX Runtime with its defaults, but without spinning threads, because opening and sealing need the cores too.

    Args:
        name: name of the accelerator, as in GRANT.
        threads: number of threads that compute one batch on a CPU.
        device: CUDA's number of the device, among those that this process sees.

    Raises:
        ServiceRefused: ``NO_ACCELERATOR``, the installed runtime cannot use it.
    """

    paced = False

    def __init__(self, name: str, *, threads: int = 1, device: int = 0) -> None:
        self.name = name
        self.kind = name.partition(":")[0]
        self._threads = threads
        provider, settings = (_CUDA, {"device_id": str(device)}) if self.kind == "cuda" else (_CPU, {})
        if provider not in onnxruntime.get_available_providers():
            raise refusal(
                Refusal.NO_ACCELERATOR, f"{name}: this ONNX Runtime was not built for it; install onnxruntime-gpu"
            )
        self._provider: tuple[str, dict[str, str]] = provider, settings
        self._models: set[_Loaded | RunnableJob | JobCopy] = set()

    def load(self, model: CheckedModel) -> _Loaded:
        """Make an ONNX Runtime session. It has no custom operators and no folder with external data."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL_ONLY
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            session = onnxruntime.InferenceSession(model.content, options, providers=[self._provider])
        except Exception as error:  # noqa: BLE001  # a hostile model may make it raise anything
            raise refusal(Refusal.MODEL_REFUSED, f"ONNX Runtime cannot load the model: {error}"[:500]) from None
        if session.get_providers()[0] != self._provider[0]:  # it falls back to the CPU with only a warning
            raise refusal(Refusal.MODEL_REFUSED, f"ONNX Runtime could not put the model on {self.name}")
        loaded = _Loaded(session, self._models.discard)
        self._models.add(loaded)
        return loaded

    def train(self, job: CheckedJob) -> RunnableJob:
        """Train with PyTorch, which is loaded now, if it was not before."""
        device = self._settled()
        from sectum.hetee.worker.accelerators.pytorch.trainer import Trainer

        trainer = Trainer(job, self._models.discard, device)
        self._models.add(trainer)
        return trainer

    def join(self, job: CheckedJob) -> JobCopy:
        """Make the job's network once more, for parts of its batches."""
        device = self._settled()
        from sectum.hetee.worker.accelerators.pytorch.parts import NetworkCopy

        copy = NetworkCopy(job, self._models.discard, device)
        self._models.add(copy)
        return copy

    def _settled(self) -> str:
        """Have PyTorch compute as it should, and return its name of this accelerator."""
        try:
            from sectum.hetee.worker.accelerators.pytorch.trainer import settle
        except ImportError:
            detail = "this worker has no software for training: the rack was started without --training"
            raise refusal(Refusal.MODEL_REFUSED, detail) from None
        device = "cpu" if self.kind == "cpu" else f"cuda:{self._provider[1]['device_id']}"
        settle(self._threads, device)
        return device

    def reset(self) -> str:
        """Drop all sessions and their memory. Only the driver can clear what is left in a GPU's memory."""
        n_models = unload_all(self._models)
        left = "; device memory freed, not overwritten" if self.kind == "cuda" else ""
        return f"{n_models} models unloaded{left}"


class _Loaded:
    def __init__(self, session: onnxruntime.InferenceSession, forget: Callable[[_Loaded], None]) -> None:
        self._session: onnxruntime.InferenceSession | None = session
        self._forget = forget

    def unload(self) -> None:
        self._session = None
        self._forget(self)

    def run(self, inputs: Arrays, outputs: tuple[str, ...], stop: Stop, pace: Pace | None = None) -> list[NDArray[Any]]:
        assert pace is None
        session = self._session
        if session is None:
            raise refusal(Refusal.COMPUTE_FAILED, "the accelerator was reset and no longer has the model")
        options = onnxruntime.RunOptions()
        options.log_severity_level = _FATAL_ONLY
        try:
            with stop.calling(lambda: setattr(options, "terminate", True)):
                return list(session.run(list(outputs), dict(inputs), options))
        except _BAD_INPUT as error:
            raise refusal(Refusal.INPUT_REFUSED, f"ONNX Runtime refuses the batch: {error}"[:500]) from None
        except Exception as error:  # noqa: BLE001  # a hostile model may make it raise anything
            raise refusal(Refusal.COMPUTE_FAILED, f"ONNX Runtime failed: {error}"[:500]) from None
