"""Measures what happens around batches: costs of an enclave's life that HETEE's paper does not report.

Everything is real: sockets, evidence, processes, a model of the zoo on CPU accelerators. One step is paced; it says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sectum.hetee.bench.context import machine
from sectum.hetee.bench.inference import Progress
from sectum.hetee.bench.local_rack import LocalRack
from sectum.hetee.bench.overheads import BootstrapEstimate, estimate
from sectum.hetee.bench.workload import SIDE, Mode, model, workload
from sectum.hetee.bench.world_switch import SWITCHES, InsecureJob, switch
from sectum.hetee.client import Result, Session
from sectum.hetee.client.connection import Connection
from sectum.hetee.client.trust import Trust

STEPS = {
    "attestation": "from connecting until the session is open and the controller's evidence is accepted",
    "creation, idle queue": "from asking for an enclave until its worker is vouched for and has the keys",
    "creation, cold": "the same when other sessions have just taken all clean workers, so that one has to start first",
    "model upload": "from sending the model until it is loaded",
    "growth": "from 1 accelerator to 2, until they are granted",
    "growth in effect": "the same until the first result of the new accelerator, which loads the model before",
    "growth in effect, paced": "the same with paced accelerators, which load nothing, and batches of 33 ms in flight",
    "shrinkage": "from 2 accelerators to 1 while none computes, with the reset of what is given back",
    "shrinkage, busy": "the same while batches are computed, which are finished first",
    "a batch": "for comparison: one image, from sending it until its result",
    "cleaning": "from the end of the session until the signed record that the process was collected",
    **SWITCHES,
}
HETEE = {"cleaning": "tens of seconds"}
"""What the paper says (section III-B): cleaning is a cold reboot there, hidden by spare nodes. No other number."""
_SPARE_S = 60.0
_POLL_S = 0.01
_BUSY = 6  # batches that are in flight while it grows or shrinks


@dataclass(frozen=True)
class LifecyclePlan:
    """What to measure.

    Attributes:
        network: network of the paper whose model is loaded.
        count: how often each step is measured.
    """

    network: str = "ResNet50"
    count: int = 5


@dataclass(frozen=True)
class LifecycleCell:
    """One step.

    Attributes:
        step: one of `STEPS`.
        samples_ms: how long it took, each time.
        n_bytes: size of what is sent; 0 if that is not the point.
    """

    step: str
    samples_ms: list[float] = field(default_factory=list)
    n_bytes: int = 0

    @property
    def ms(self) -> BootstrapEstimate:
        """The median in milliseconds."""
        return estimate((self.samples_ms,), lambda m: m[0])

    def json(self) -> dict[str, Any]:
        """The median with its 95 % interval, and all samples."""
        found = self.ms
        return {
            "step": self.step,
            "what": STEPS[self.step],
            "kind": "measured, paced" if "paced" in self.step else "measured",
            "ms": round(found.value, 3),
            "interval_95": found.json(),
            "bytes": self.n_bytes or None,
            "hetee": HETEE.get(self.step),
            "samples_ms": [round(ms, 3) for ms in self.samples_ms],
        }


def about(plan: LifecyclePlan) -> dict[str, Any]:
    """The machine, and what was measured on it and how."""
    return {
        **machine(),
        "what": "steps in the life of an enclave, by the client's clock",
        "network": plan.network,
        "count": plan.count,
        "interval": "95 %, bootstrap over the samples of this run",
        "evidence": "software: no hardware protects this",
    }


def run(plan: LifecyclePlan, progress: Progress) -> list[LifecycleCell]:
    """Measure all steps, one life after the other; Ctrl-C ends it early.

    Args:
        plan: what to measure.
        progress: called with what is being measured, and the share of all that is done.

    Returns:
        A cell for each step that was measured.

    Raises:
        HeteeError: the service failed.
        UsageError: the service cannot be started.
    """
    progress("starting the service", 0.0)
    content = model(plan.network, Mode(real_compute=True))
    cells = {step: LifecycleCell(step, n_bytes=len(content) if step == "model upload" else 0) for step in STEPS}
    with LocalRack("cpu=2,paced=32", arguments=["--spares", "1"]) as rack:
        _ = rack.policy  # made once, which is no part of any step
        try:
            for number in range(plan.count):
                progress(f"life {number + 1}", number / plan.count)
                _one_life(rack, content, cells)
        except KeyboardInterrupt:
            if not all(cell.samples_ms for cell in cells.values()):
                raise
    return [cell for cell in cells.values() if cell.samples_ms]


def _one_life(rack: LocalRack, content: bytes, cells: dict[str, LifecycleCell]) -> None:
    def timed(step: str, act: Callable[[], Any]) -> Any:
        begun_s = time.perf_counter()
        found = act()
        cells[step].samples_ms.append((time.perf_counter() - begun_s) * 1e3)
        return found

    _wait_for_spare(rack)
    session = timed("attestation", lambda: _attested(rack))
    timed("creation, idle queue", lambda: session.configure("cpu", 1, _SPARE_S))
    others = [_attested(rack) for _ in range(_spares(rack) + 1)]
    for other in others[:-1]:
        other.configure("paced", 1, _SPARE_S)
    timed("creation, cold", lambda: others[-1].configure("paced", 1, _SPARE_S))
    for other in others:
        other.close(0)
    _wait_for_spare(rack)  # its start would disturb what follows
    timed("model upload", lambda: session.load(content))
    image = np.zeros((1, 3, SIDE, SIDE), np.float32)
    session.infer(image)
    timed("a batch", lambda: session.infer(image))
    own = session.infer(image).receipt.accelerator
    futures = [session.submit(image) for _ in range(_BUSY)]

    def both_compute() -> None:
        while futures[-1].result().receipt.accelerator == own:
            futures.extend(session.submit(image) for _ in range(2))

    begun_s = time.perf_counter()
    timed("growth", lambda: session.resize(2))
    both_compute()
    cells["growth in effect"].samples_ms.append((time.perf_counter() - begun_s) * 1e3)
    for future in futures:
        future.result()
    timed("shrinkage", lambda: session.resize(1))
    session.resize(2)
    futures = [session.submit(image) for _ in range(_BUSY)]
    both_compute()
    futures += [session.submit(image) for _ in range(_BUSY)]
    timed("shrinkage, busy", lambda: session.resize(1))
    for future in futures:
        future.result()
    timed("cleaning", lambda: session.close(0))
    _paced_growth(rack, cells["growth in effect, paced"].samples_ms)
    with InsecureJob(rack) as job:
        _wait_for_spare(rack)
        for step, ms in switch(job, _attested(rack), 1).items():
            cells[step].samples_ms.append(ms)


def _paced_growth(rack: LocalRack, samples_ms: list[float]) -> None:
    """Grow while batches are in flight: how long until the first answer of an accelerator that was added."""
    work = workload("ResNet50", 8, Mode(), 1)
    with rack.connect_and_settle(accelerator="paced") as session:
        session.load(model("ResNet50", Mode()))

        def more(count: int) -> list[Future[Result]]:
            return [session.submit(work.inputs, pixels=work.pixels, pace=work.pace) for _ in range(count)]

        own = more(1)[0].result().receipt.accelerator
        futures = more(_BUSY)
        begun_s = time.perf_counter()
        session.resize(2)
        futures += more(_BUSY)
        for future in as_completed(futures):
            if future.result().receipt.accelerator != own:
                samples_ms.append((time.perf_counter() - begun_s) * 1e3)
                break


def _attested(rack: LocalRack) -> Session:
    """A session without an enclave, whose controller has shown its evidence."""
    trust = Trust(rack.policy)
    return Session(Connection(rack.url, trust, Ed25519PrivateKey.generate()), trust)


def _spares(rack: LocalRack) -> int:
    return sum(worker["state"] == "spare" for worker in (rack.state() or {"workers": ()})["workers"])


def _wait_for_spare(rack: LocalRack) -> None:
    end_s = time.monotonic() + _SPARE_S
    while not rack.ready() and time.monotonic() < end_s:
        time.sleep(_POLL_S)
