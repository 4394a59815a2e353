"""A training job whose accelerators others get meanwhile: it goes on where it was, in the same enclave."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hetee_rack import Rack
from hetee_training import SGD
from sectum.hetee.client import Optimiser, Session, TrainingJob
from sectum.hetee.client.small_networks import small_network
from sectum.hetee.client.training import Training

pytestmark = pytest.mark.slow

pytest.importorskip("torch", reason="PyTorch is an extra")

LOW, HIGH = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
ITEMS = 8
NETWORK = small_network("cnn", (3, 8, 8), 3)
SMALL = TrainingJob(optimiser=SGD, onnx=(bytes(32),), state_every=1)
SLOW = Optimiser(kind="sgd", rate=1e-3, momentum=0.9)
LARGE = TrainingJob(optimiser=SLOW, network="resnet18", classes=3, resolution=64, state_every=1)
LONGEST_S = "0.1"  # a step of the large job takes longer


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """A rack with two accelerators, which admits two identities of different priority."""
    admit = tmp_path_factory.mktemp("admit") / "keys"
    keys = {LOW: 0, HIGH: 5}
    admit.write_text("\n".join(f"{key.public_key().public_bytes_raw().hex()}:{at}" for key, at in keys.items()))
    options = ["--spares", "1", "--admit", str(admit), "--longest-batch-s", LONGEST_S]
    with Rack("cpu=2", training=True, arguments=options) as started:
        yield started


def batch(number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(number)
    return rng.standard_normal((ITEMS, 3, side, side), np.float32), rng.integers(0, 3, ITEMS)


def steps(training: Training, side: int, numbers: range) -> list[tuple[float, bytes | None]]:
    """The losses of these steps, and the digests of the state after each."""
    done = [training.step(*batch(number, side)) for number in numbers]
    for step in done:
        assert step.result.receipt.accelerator == "cpu:0,cpu:1"
    return [(step.loss, step.state) for step in done]


def train(session: Session, job: TrainingJob) -> Training:
    return session.train(job, onnx=NETWORK if job.onnx else None)


@pytest.mark.parametrize(("job", "side", "count"), [(SMALL, 8, 60), (LARGE, 64, 4)], ids=["small", "large"])
def test_a_job_goes_on_with_the_same_losses(rack: Rack, job: TrainingJob, side: int, count: int) -> None:
    """Requests of higher priority take both accelerators again and again; losses and states are the same, bit for bit.

    Steps of the large job take longer than they may on accelerators that are taken: they are left, and done again.
    """
    with rack.connect(identity=LOW, count=2) as session:
        expected = steps(train(session, job), side, range(count))
    served: list[int] = []

    def use() -> None:
        for _ in range(3):
            with rack.connect(identity=HIGH, count=2, wait_s=120) as other:
                other.load(NETWORK)
                served.append(len(other.infer(batch(0, 8)[0]).outputs))

    with rack.connect(identity=LOW, count=2) as session:
        training = train(session, job)
        found = steps(training, side, range(1))
        pid = rack.serving_pid()
        others = threading.Thread(target=use)
        others.start()
        while others.is_alive() or len(found) < count:
            found += steps(training, side, range(len(found), len(found) + 1))
        others.join()
        assert pid in rack.worker_pids()  # the same enclave, from its first step to its last
    assert len(served) == 3
    assert found[:count] == expected
