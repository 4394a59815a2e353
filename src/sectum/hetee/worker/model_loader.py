"""Loads models on every accelerator of an engine, and answers their CODE when that is done."""

from __future__ import annotations

import time

from sectum.hetee.errors import HeteeError, Refusal, refusal
from sectum.hetee.worker.engine_state import EngineCallbacks, EngineState
from sectum.hetee.worker.load_job import LoadJob
from sectum.hetee.worker.models import CheckedModel, ModelLimits, inspect
from sectum.hetee.worker.owned_accelerator import OwnedAccelerator
from sectum.hetee.worker.training.checked_job import inspect_job, inspect_weights


class ModelLoader:
    """Loads a model on one accelerator, then on the others. The accelerators' threads call it.

    Args:
        state: what the engine's threads share.
        callbacks: whom to tell.
        limits: how many models may be loaded.
    """

    def __init__(self, state: EngineState, callbacks: EngineCallbacks, limits: ModelLimits) -> None:
        self._state, self._callbacks, self._limits = state, callbacks, limits
        self._loading: tuple[LoadJob, CheckedModel] | None = None  # what is loaded on one, and not yet on all

    def refusal(self, sha256: bytes, n_bytes: int) -> HeteeError | None:
        """Why a model of this size may not be loaded beside those that are; None if it may."""
        others = {digest: model for digest, model in dict(self._state.models).items() if digest != sha256}
        return self._limits.refusal(len(others), sum(len(model.content) for model in others.values()), n_bytes)

    def due(self, owner: OwnedAccelerator) -> CheckedModel | None:
        """The model that is being loaded and that this accelerator lacks, if there is one."""
        return self._loading[1] if self._loading is not None and owner.lacks(self._loading[1]) else None

    def load(self, owner: OwnedAccelerator, load: LoadJob) -> None:
        """Check a model that was received, and load it on the first accelerator."""
        if known := self._state.models.get(load.sha256):  # it was sent again
            self._callbacks.loaded(load, known, time.perf_counter_ns() - load.begun_ns)
            return
        try:
            if error := self.refusal(load.sha256, len(load.content)):
                raise error
            model = self._inspect(load)
            owner.put(model)
        except HeteeError as error:
            self._callbacks.load_refused(load, error)
        except MemoryError:
            self._callbacks.load_refused(
                load, refusal(Refusal.MODEL_REFUSED, "loading the model needs more memory than the worker may use")
            )
        else:
            with self._state.changed:
                self._state.models[load.sha256], self._loading = model, (load, model)
                self._state.changed.notify_all()
            self.end()

    def load_too(self, owner: OwnedAccelerator, model: CheckedModel) -> None:
        """Load a model that another accelerator has; without it, this one gets no batches of it."""
        try:
            owner.put(model)
        except (HeteeError, MemoryError):
            owner.unable.add(model.sha256)
        self.end()

    def end(self) -> None:
        """Answer a CODE when its model is on every accelerator, or when one of them cannot have it."""
        state = self._state
        with state.changed:
            if self._loading is None:
                return
            load, model = self._loading
            if model.sha256 in state.models and any(one.lacks(model) for one in state.owned.values()):
                return
            self._loading = None
            unable = [one.accelerator.name for one in state.owned.values() if model.sha256 in one.unable]
            if unable:
                state.models.pop(model.sha256, None)
        if unable:
            why = f"{unable[0]} cannot load it beside the others: send a smaller model, or ask for fewer accelerators"
            self._callbacks.load_refused(load, refusal(Refusal.MODEL_REFUSED, why))
        else:
            self._callbacks.loaded(load, model, time.perf_counter_ns() - load.begun_ns)

    def _inspect(self, load: LoadJob) -> CheckedModel:
        match load.format:
            case "training":
                return inspect_job(load.content, load.sha256, self._state.models)
            case "safetensors":
                return inspect_weights(load.content, load.sha256)
        return inspect(load.content)
