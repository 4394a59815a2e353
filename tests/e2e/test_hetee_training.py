"""Training as a user does it: a data set that a package ships, inside and outside, and the benchmark."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from hetee_rack import Rack
from hetee_training import SGD, batches
from sectum.cli.hetee.command import hetee
from sectum.hetee.client import TrainingJob
from sectum.hetee.client.small_networks import small_network

pytestmark = pytest.mark.slow

pytest.importorskip("torch", reason="PyTorch is an extra")
pytest.importorskip("sklearn", reason="scikit-learn, in whose package the pictures are")


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """A rack whose workers can train, in a folder of its own."""
    with Rack("cpu=1", training=True, arguments=["--spares", "1"]) as started:
        started.paths.training.touch()
        yield started


def train(rack: Rack, *words: str) -> Result:
    where = ["--url", rack.url, "--state", str(rack.paths.directory), "--json"]
    done = CliRunner().invoke(hetee, ["train", *words, *where], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def test_the_digits_reach_the_same_accuracy_inside_as_outside(rack: Rack, tmp_path: Path) -> None:
    """A small network learns scikit-learn's digits; each loss is that of the same training outside, bit for bit."""
    plot, checkpoint, receipts = tmp_path / "loss.png", tmp_path / "c.safetensors", tmp_path / "receipts"
    words = ("cnn", "--data", "digits", "--epochs", "4", "--compare", "--plot", str(plot))
    done = train(rack, *words, "--checkpoint", str(checkpoint), "--receipts", str(receipts))
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


def test_a_training_goes_on_from_its_checkpoint(rack: Rack, tmp_path: Path) -> None:
    """Two passes, and two more from the checkpoint in another enclave, are four passes, bit for bit."""
    file = tmp_path / "half.safetensors"
    words = ("mlp", "--data", "digits", "--optimiser", "adam")
    whole = json.loads(train(rack, *words, "--epochs", "4").stdout)
    first = json.loads(train(rack, *words, "--epochs", "2", "--checkpoint", str(file)).stdout)
    second = json.loads(train(rack, *words, "--epochs", "4", "--resume", str(file)).stdout)
    assert first["losses"] + second["losses"] == whole["losses"]
    assert second["state_sha256"] == whole["state_sha256"]


def test_a_network_of_the_zoo_learns_the_photographs(rack: Rack) -> None:
    """A published network tells squares of scikit-learn's two photographs apart."""
    words = ("zoo:squeezenet1_1", "--data", "photos", "--optimiser", "adam", "--epochs", "3", "--batch", "32")
    found = json.loads(train(rack, *words).stdout)
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


def test_a_training_gives_its_accelerator_to_others_and_goes_on(rack: Rack) -> None:
    """While others use the only accelerator, a training waits with its state in its enclave; no loss is another."""
    network = small_network("cnn", (3, 8, 8), 3)
    job = TrainingJob(optimiser=SGD, onnx=(bytes(32),))
    data = batches(4, side=8)
    with rack.connect() as session:
        training = session.train(job, onnx=network)
        expected = [training.step(*data[number % 4]).loss for number in range(200)]
    served: list[int] = []

    def use() -> None:
        for _ in range(3):
            with rack.connect(wait_s=120) as other:
                other.load(network)
                served.append(len(other.infer(data[0][0]).outputs))

    with rack.connect() as session:
        training = session.train(job, onnx=network)
        others = threading.Thread(target=use)
        others.start()
        losses = []
        while others.is_alive() or len(losses) < len(expected):
            losses.append(training.step(*data[len(losses) % 4]).loss)
        others.join()
    assert len(served) == 3
    assert losses[: len(expected)] == expected
