"""One session for many callers, with the same models in every enclave that it gets."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

from sectum.hetee.attest.evidence import Claims
from sectum.hetee.attest.policy import Policy
from sectum.hetee.client.results import Loaded, Result
from sectum.hetee.client.session import Session, connect
from sectum.hetee.errors import HeteeError, PolicyRefused, Refusal, ServiceRefused, WorkRefused, refusal


class Gateway:
    """Connects when it is needed, loads models again when an enclave was lost, and asks a second time then.

    Args:
        url: of the service.
        policy: what the owner accepts.
        options: as of `connect`.
    """

    def __init__(self, url: str, policy: Policy, **options: Any) -> None:
        self._url, self._policy, self._options = url, policy, options
        self._lock = threading.Lock()
        self._contents: dict[str, bytes] = {}
        self._loaded: dict[str, Loaded] = {}
        self._session: Session | None = None
        self._index: int | None = None

    def add(self, name: str, content: bytes) -> Loaded:
        """Load a model under a name.

        Raises:
            HeteeError: the service cannot be reached or trusted, or does not load it.
        """
        with self._lock:
            session = self._ready()
            self._loaded[name] = session.load(content)
            self._contents[name] = content
            return self._loaded[name]

    def model(self, name: str) -> Loaded:
        """What a name stands for.

        Raises:
            WorkRefused: ``NO_MODEL``.
        """
        found = self._loaded.get(name)
        if found is None:
            raise refusal(Refusal.NO_MODEL, f"no model is called '{name[:80]}'; there are {', '.join(self._contents)}")
        return found

    @property
    def claims(self) -> Claims | None:
        """Of the controller that was accepted; None while there is no session."""
        return self._session.trust.controller if self._session is not None else None

    @property
    def protection(self) -> str:
        """What stands behind the evidence of the service, for people; empty while there is no session."""
        return str(self.claims or "")

    def infer(self, name: str, inputs: Any, outputs: tuple[str, ...] = (), **options: Any) -> Result:
        """Run a model; once more if the enclave or the service was lost meanwhile.

        Raises:
            HeteeError: as `Session.infer`.
        """
        try:
            return self._infer(name, inputs, outputs, options)
        except (ServiceRefused, WorkRefused) as error:
            # NO_MODEL: a new enclave came between, which was not given it yet.
            if name not in self._contents or (isinstance(error, WorkRefused) and error.code is not Refusal.NO_MODEL):
                raise
            return self._infer(name, inputs, outputs, options)

    def _infer(self, name: str, inputs: Any, outputs: tuple[str, ...], options: dict[str, Any]) -> Result:
        with self._lock:
            session = self._ready()
            model = self.model(name)
        # Not under the lock: batches of several callers follow each other without waiting for answers.
        return session.submit(inputs, outputs=outputs, model=model, **options).result()

    def _ready(self) -> Session:
        """A session whose enclave has all models."""
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

    def close(self) -> None:
        """End the session."""
        with self._lock:
            if self._session is not None:
                with suppress(PolicyRefused, ServiceRefused):
                    self._session.close()
                self._session = None
