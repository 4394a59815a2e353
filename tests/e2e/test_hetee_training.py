"""Training as a user does it: a data set that a package ships, inside and outside, beside others, and the benchmark."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hetee_hostile_host import HostileHost
from hetee_rack import Rack
from hetee_training import SGD, batches
from sectum.cli.hetee.command import hetee
from sectum.hetee.client import Optimiser, TrainingJob, make_identity
from sectum.hetee.client.pool import connect_pool
from sectum.hetee.client.small_networks import small_network
from sectum.hetee.client.training import Training
from sectum.hetee.errors import CleaningUnproven

pytestmark = pytest.mark.slow

pytest.importorskip("torch", reason="PyTorch is an extra")
pytest.importorskip("sklearn", reason="scikit-learn, in whose package the pictures are")

ITEMS = 8
NETWORK = small_network("cnn", (3, 8, 8), 3)
SMALL = TrainingJob(optimiser=SGD, onnx=(bytes(32),))
KEPT = TrainingJob(optimiser=SGD, onnx=(bytes(32),), state_every=1)
SLOW = Optimiser(kind="sgd", rate=1e-3, momentum=0.9)
LARGE = TrainingJob(optimiser=SLOW, network="resnet18", classes=3, resolution=64, state_every=1)
LONGEST_S = "0.1"  # a step of the large job takes longer


class Keys(NamedTuple):
    """The identities that the rack admits: two of low and one of high priority, and the file of the first."""

    low: Ed25519PrivateKey
    other: Ed25519PrivateKey
    high: Ed25519PrivateKey
    file: Path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Identities of different priority."""
    file = tmp_path_factory.mktemp("keys") / "low"
    return Keys(make_identity(file), Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate(), file)


@pytest.fixture(scope="module")
def rack(keys: Keys) -> Iterator[Rack]:
    """A rack with two accelerators whose workers can train; one for all tests, because its start takes long."""
    admitted = {keys.low: 0, keys.other: 0, keys.high: 5}
    admit = keys.file.with_name("admitted")
    admit.write_text("\n".join(f"{key.public_key().public_bytes_raw().hex()}:{at}" for key, at in admitted.items()))
    options = ["--spares", "1", "--admit", str(admit), "--longest-batch-s", LONGEST_S]
    with Rack("cpu=2", training=True, arguments=options) as started:
        started.paths.training.touch()
        yield started


class Undisturbed(NamedTuple):
    """What jobs give on two accelerators that nobody takes: losses, and of two jobs the digests of the states, too."""

    shared: list[float]
    small: list[tuple[float, bytes | None]]
    large: list[tuple[float, bytes | None]]


@pytest.fixture(scope="module")
def undisturbed(rack: Rack, keys: Keys) -> Undisturbed:
    """All of them in one enclave: each worker that starts imports PyTorch."""
    data = batches(4, side=8)
    with rack.connect(identity=keys.low, count=2) as session:
        training = session.train(SMALL, onnx=NETWORK)
        shared = [training.step(*data[number % 4]).loss for number in range(200)]
        training.end()
        training = session.train(KEPT, onnx=NETWORK)
        small = steps(training, 8, range(60))
        training.end()
        return Undisturbed(shared, small, steps(session.train(LARGE), 64, range(4)))


def train(rack: Rack, keys: Keys, *words: str) -> Result:
    where = ["--url", rack.url, "--state", str(rack.paths.directory), "--identity", str(keys.file), "--json"]
    done = CliRunner().invoke(hetee, ["train", *words, *where], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def test_the_digits_reach_the_same_accuracy_inside_as_outside(rack: Rack, keys: Keys, tmp_path: Path) -> None:
    """A small network learns scikit-learn's digits; each loss is that of the same training outside, bit for bit."""
    plot, checkpoint, receipts = tmp_path / "loss.png", tmp_path / "c.safetensors", tmp_path / "receipts"
    words = ("cnn", "--data", "digits", "--epochs", "4", "--compare", "--plot", str(plot))
    done = train(rack, keys, *words, "--checkpoint", str(checkpoint), "--receipts", str(receipts))
    found = json.loads(done.stdout)
    assert found["outside"]["equal"]
    assert found["accuracies"] == found["outside"]["accuracies"]
    assert found["state_sha256"] == found["outside"]["state_sha256"]
    assert found["accuracies"][-1] > 0.95
    assert len(found["losses"]) == 4 * 23 == len(list(receipts.glob("*.json")))
    assert plot.read_bytes().startswith(b"\x89PNG")
    words = ("verify", str(receipts / "step-7.json"), "--state", str(rack.paths.directory), "--json", "--output")
    verified = CliRunner().invoke(hetee, [*words, str(receipts / "step-7.npz")])
    assert verified.exit_code == 0, verified.output
    assert json.loads(verified.stdout)["work"] == [{"kind": "train", "step": 7}]
    assert CliRunner().invoke(hetee, [*words, str(receipts / "step-8.npz")]).exit_code


def test_a_training_goes_on_from_its_checkpoint(rack: Rack, keys: Keys, tmp_path: Path) -> None:
    """Two passes, and two more from the checkpoint in another enclave, are four passes, bit for bit."""
    file = tmp_path / "half.safetensors"
    words = ("mlp", "--data", "digits", "--optimiser", "adam")
    whole = json.loads(train(rack, keys, *words, "--epochs", "4").stdout)
    first = json.loads(train(rack, keys, *words, "--epochs", "2", "--checkpoint", str(file)).stdout)
    second = json.loads(train(rack, keys, *words, "--epochs", "4", "--resume", str(file)).stdout)
    assert first["losses"] + second["losses"] == whole["losses"]
    assert second["state_sha256"] == whole["state_sha256"]
    assert (whole["first_pass"], second["first_pass"]) == (1, 3)


def test_a_network_of_the_zoo_learns_the_photographs(rack: Rack, keys: Keys) -> None:
    """A published network tells squares of scikit-learn's two photographs apart."""
    words = ("zoo:squeezenet1_1", "--data", "photos", "--optimiser", "adam", "--epochs", "3", "--batch", "32")
    found = json.loads(train(rack, keys, *words).stdout)
    assert np.mean(found["losses"][-5:]) < np.mean(found["losses"][:5])
    assert found["accuracies"][-1] > 0.7


def test_the_benchmark_measures_a_paced_cell() -> None:
    """One cell of figures 7b and 8b: baseline and service wait for the same published time; losses come in order."""
    words = ["bench", "training", "--network", "GoogLeNet", "--batch", "4", "--batches", "4", "--json"]
    done = CliRunner().invoke(hetee, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (cell,) = json.loads(done.stdout)["cells"]
    assert (cell["task"], cell["network"], cell["batch"], cell["compute"]) == ("training", "GoogLeNet", 4, "paced")
    assert cell["breakdown_ms"]["compute"] >= 47
    assert cell["hetee"]["latency_overhead_pct"] == 33.49
    assert len(cell["samples"]["latency_ms"]["service"]["total"]) == 4


def test_a_training_gives_its_accelerators_to_others_and_goes_on(
    rack: Rack, keys: Keys, undisturbed: Undisturbed
) -> None:
    """While others use all accelerators, a training waits with its state in its enclave; no loss is another."""
    data, expected = batches(4, side=8), undisturbed.shared
    served: list[int] = []

    def use() -> None:
        for _ in range(2):
            with rack.connect(identity=keys.other, count=2, wait_s=120) as other:
                other.load(NETWORK)
                served.append(len(other.infer(data[0][0]).outputs))

    with rack.connect(identity=keys.low, count=2) as session:
        training = session.train(SMALL, onnx=NETWORK)
        others = threading.Thread(target=use)
        others.start()
        losses = []
        while others.is_alive() or len(losses) < len(expected):
            losses.append(training.step(*data[len(losses) % 4]).loss)
        others.join()
    assert len(served) == 2
    assert losses[: len(expected)] == expected


def batch(number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(number)
    return rng.standard_normal((ITEMS, 3, side, side), np.float32), rng.integers(0, 3, ITEMS)


def steps(training: Training, side: int, numbers: range) -> list[tuple[float, bytes | None]]:
    """The losses of these steps, and the digests of the state after each."""
    done = [training.step(*batch(number, side)) for number in numbers]
    for step in done:
        assert step.result.receipt.accelerator == "cpu:0,cpu:1"
    return [(step.loss, step.state) for step in done]


@pytest.mark.parametrize(("job", "side", "count"), [(KEPT, 8, 60), (LARGE, 64, 4)], ids=["small", "large"])
def test_a_job_that_is_preempted_goes_on_with_the_same_losses(
    rack: Rack, keys: Keys, undisturbed: Undisturbed, job: TrainingJob, side: int, count: int
) -> None:
    """Requests of higher priority take both accelerators again and again; losses and states are the same, bit for bit.

    Steps of the large job take longer than they may on accelerators that are taken: they are left, and done again.
    """
    expected = undisturbed.small if job is KEPT else undisturbed.large
    assert len(expected) == count
    served: list[int] = []

    def use() -> None:
        for _ in range(2):
            with rack.connect(identity=keys.high, count=2, wait_s=120) as other:
                other.load(NETWORK)
                served.append(len(other.infer(batch(0, 8)[0]).outputs))

    with rack.connect(identity=keys.low, count=2) as session:
        training = session.train(job, onnx=NETWORK if job.onnx else None)
        found = steps(training, side, range(1))
        pid = rack.serving_pid()
        others = threading.Thread(target=use)
        others.start()
        while others.is_alive() or len(found) < count:
            found += steps(training, side, range(len(found), len(found) + 1))
        others.join()
        assert pid in rack.worker_pids()  # the same enclave, from its first step to its last
    assert len(served) == 2
    assert found[:count] == expected


def test_a_job_goes_on_where_another_rack_left_it(rack: Rack, keys: Keys) -> None:
    """When the way to a rack is cut in mid-job, the next one goes on from the last checkpoint with the same losses."""
    data = batches(8, side=8)
    with rack.connect(identity=keys.low) as session:
        training = session.train(SMALL, onnx=NETWORK)
        expected = [training.step(*each).loss for each in data]
        state = training.checkpoint().sha256
    with HostileHost(rack.port) as first:
        cut = first.url
        pool = connect_pool([cut, rack.url], rack.policy, identity=keys.low)
        moving = pool.train(SMALL, onnx=NETWORK, checkpoint_every=3)
        begun = [moving.submit(*each) for each in data[:5]]
        assert begun[4].result(120).result.receipt is not None
    begun += [moving.submit(*each) for each in data[5:]]
    assert [step.result(120).loss for step in begun] == expected
    assert moving.checkpoint().sha256 == state
    assert moving.differing == []
    (move,) = moving.moves
    assert (move.lost, move.rack, move.step) == (cut, rack.url, 3)
    with pytest.raises(CleaningUnproven, match=cut):
        pool.close()
