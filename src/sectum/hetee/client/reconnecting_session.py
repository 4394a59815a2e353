"""A session that many threads share. It connects again and reloads its models when an enclave or service is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from sectum.hetee.client.connecting import connect
from sectum.hetee.client.results import LoadedModel, Result
from sectum.hetee.client.session import Session
from sectum.hetee.errors import HeteeError, PolicyRefused, Refusal, ServiceRefused, WorkRefused, refusal
from sectum.hetee.verification.evidence import Claims
from sectum.hetee.verification.policy import Policy


class ReconnectingSession:
    """Connects on demand, reloads the models after an enclave was lost, and then repeats the request once.

    Args:
        url: address of the service.
        policy: what the owner accepts.
        options: options of `connect`.
    """

    def __init__(self, url: str, policy: Policy, **options: Any) -> None:
        self._url, self._policy, self._options = url, policy, options
        self._lock = threading.Lock()
        self._contents: dict[str, bytes] = {}
        self._loaded: dict[str, LoadedModel] = {}
        self._session: Session | None = None
        self._index: int | None = None

    def add(self, name: str, content: bytes) -> LoadedModel:
        """Load a model under a name.

        Raises:
            HeteeError: the service cannot be reached, is not trusted, or cannot load the model.
        """
        with self._lock:
            session = self._ready()
            self._loaded[name] = session.load(content)
            self._contents[name] = content
            return self._loaded[name]

    def model(self, name: str) -> LoadedModel:
        """The model with this name.

        Raises:
            WorkRefused: ``NO_MODEL``.
        """
        found = self._loaded.get(name)
        if found is None:
            raise refusal(
                Refusal.NO_MODEL, f"there is no model '{name[:80]}'; the models are {', '.join(self._contents)}"
            )
        return found

    @property
    def claims(self) -> Claims | None:
        """The accepted claims of the controller; None while there is no session."""
        return self._session.trust.controller if self._session is not None else None

    @property
    def protection(self) -> str:
        """The controller's claims in words; empty while there is no session."""
        return str(self.claims or "")

    def infer(
        self,
        name: str,
        inputs: Any,
        outputs: tuple[str, ...] = (),
        *,
        sent: Callable[[Callable[[], None]], None] = lambda _cancel: None,
        **options: Any,
    ) -> Result:
        """Run a model, and repeat this once if the enclave or the service was lost meanwhile.

        Args:
            name: name of the model.
            inputs: see `Session.submit`.
            outputs: names of the wanted outputs; empty for all.
            sent: called when the batch was sent, with a function that cancels it.
            options: further options of `Session.submit`.

        Raises:
            HeteeError: as `Session.infer`.
        """
        try:
            return self._infer(name, inputs, outputs, sent, options)
        except (ServiceRefused, WorkRefused) as error:
            # NO_MODEL: a new enclave replaced the old one and does not have the model yet.
            if name not in self._contents or (isinstance(error, WorkRefused) and error.code is not Refusal.NO_MODEL):
                raise
            return self._infer(name, inputs, outputs, sent, options)

    def _infer(
        self,
        name: str,
        inputs: Any,
        outputs: tuple[str, ...],
        sent: Callable[[Callable[[], None]], None],
        options: dict[str, Any],
    ) -> Result:
        with self._lock:
            session = self._ready()
            model = self.model(name)
        # Not under the lock, so that callers send batches without waiting for each other's answers.
        future = session.submit(inputs, outputs=outputs, model=model, **options)
        sent(partial(session.cancel, future))
        return future.result()

    def _ready(self) -> Session:
        """Connect if necessary, and load all models into a new enclave."""
        if self._session is not None and self._session.failed is not None:
            with suppress(HeteeError):
                self._session.close(0)
            self._session = None
        if self._session is None:
            self._session, self._index = connect(self._url, self._policy, **self._options), None
        if self._session.index != self._index or self._index is None:
            for name, content in self._contents.items():
                self._loaded[name] = self._session.load(content)
            self._index = self._session.index
        return self._session

    def resize(self, count: int, *, wait_s: float = 60.0) -> tuple[str, ...]:
        """Give the enclave another number of accelerators; the enclaves after it get as many.

        Raises:
            HeteeError: as `Session.resize`.
        """
        with self._lock:
            session = self._ready()
        names = session.resize(count, wait_s=wait_s)
        self._options["count"] = count
        return names

    def close(self) -> None:
        """End the session."""
        with self._lock:
            if self._session is not None:
                with suppress(PolicyRefused, ServiceRefused):
                    self._session.close()
                self._session = None
