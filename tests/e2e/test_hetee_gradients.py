"""One training job on several racks at once: the losses of one rack, one state everywhere, and a rack that is lost."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from hetee_hostile_host import HostileHost
from hetee_rack import Rack
from sectum.cli.hetee.command import hetee
from sectum.hetee.client import Optimiser, TrainingJob
from sectum.hetee.client.pool import connect_pool
from sectum.hetee.client.small_networks import small_network
from sectum.hetee.errors import CleaningUnproven, HeteeError, Refusal, WorkRefused
from sectum.hetee.verification.policy import Policy

pytestmark = pytest.mark.slow

pytest.importorskip("torch", reason="PyTorch is an extra")

NETWORK = small_network("mlp", (3, 8, 8), 3)
JOB = TrainingJob(optimiser=Optimiser(kind="sgd", rate=0.05, momentum=0.9), onnx=(bytes(32),))
RTOL = 1e-5


def batches(count: int, items: int = 7) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches that cannot be divided equally."""
    rng = np.random.default_rng(3)
    return [(rng.standard_normal((items, 3, 8, 8), np.float32), rng.integers(0, 3, items)) for _ in range(count)]


DATA = batches(8)


@pytest.fixture(scope="module")
def racks(training_racks: tuple[Rack, Rack]) -> tuple[Rack, Rack]:
    """Two racks whose workers can train."""
    return training_racks


@pytest.fixture(scope="module")
def policy(racks: tuple[Rack, Rack]) -> Policy:
    """Accepts both racks."""
    first, second = (rack.policy for rack in racks)
    return msgspec.structs.replace(first, roots=(*first.roots, *second.roots))


@pytest.fixture(scope="module")
def alone(racks: tuple[Rack, Rack]) -> list[float]:
    """The losses of one rack with the whole batches."""
    with racks[0].connect() as session:
        training = session.train(JOB, onnx=NETWORK)
        return [training.step(*batch).loss for batch in DATA]


def test_two_racks_train_as_one(racks: tuple[Rack, Rack], policy: Policy, alone: list[float]) -> None:
    """Losses are those of one rack with the whole batch, and both racks sign the same loss and state of each step."""
    with connect_pool([rack.url for rack in racks], policy) as session:
        training = session.train(JOB, onnx=NETWORK, racks=2)
        steps = [future.result(60) for future in [training.submit(*batch) for batch in DATA]]
        saved = training.checkpoint()
        scores = training.scores(DATA[0][0])
        for step in steps:
            (other,) = step.others
            assert {step.result.rack, other.rack} == {rack.url for rack in racks}  # type: ignore[attr-defined]
            assert other.outputs["state"].tobytes() == step.state
            assert other.receipt.outputs == step.result.receipt.outputs
            assert session.bundle(other).receipt != session.bundle(step.result).receipt
        training.end()
    np.testing.assert_allclose([step.loss for step in steps], alone, rtol=RTOL)
    assert [step.number for step in steps] == list(range(1, len(DATA) + 1))
    assert steps[-1].state == saved.sha256
    assert saved.step == len(DATA)
    assert scores.shape == (7, 3)


def test_a_step_that_is_wrong_changes_nothing(racks: tuple[Rack, Rack], policy: Policy, alone: list[float]) -> None:
    """A batch that one rack refuses is refused on both, and the job goes on as if it had not been sent."""
    with connect_pool([rack.url for rack in racks], policy) as session:
        training = session.train(JOB, onnx=NETWORK, racks=2)
        losses = [training.step(*DATA[0]).loss]
        wrong = DATA[1][1].copy()
        wrong[-1] = 9
        for pictures, labels in ((DATA[1][0], wrong), (DATA[1][0][:1], DATA[1][1][:1])):
            with pytest.raises(WorkRefused) as caught:
                training.step(pictures, labels)
            assert caught.value.code is Refusal.INPUT_REFUSED
        losses += [training.step(*batch).loss for batch in DATA[1:4]]
        np.testing.assert_allclose(losses, alone[:4], rtol=RTOL)


def test_a_rack_that_is_lost_costs_no_step(racks: tuple[Rack, Rack], policy: Policy, alone: list[float]) -> None:
    """When one of two racks is lost in mid-job, the other goes on from the last checkpoint; no step comes twice."""
    answered: list[int] = []
    with HostileHost(racks[1].port) as way:
        session = connect_pool([racks[0].url, way.url], policy, wait_s=20)
        lost, training = way.url, session.train(JOB, onnx=NETWORK, racks=2, checkpoint_every=3)
        assert len(training.members) == 2
        steps = []
        for number, batch in enumerate(DATA[:5]):
            steps.append(training.submit(*batch))
            steps[-1].add_done_callback(lambda _step, number=number: answered.append(number))
        assert steps[4].result(60).others
    for number, batch in enumerate(DATA[5:], 5):
        steps.append(training.submit(*batch))
        steps[-1].add_done_callback(lambda _step, number=number: answered.append(number))
    np.testing.assert_allclose([step.result(120).loss for step in steps], alone, rtol=RTOL)
    assert answered == list(range(len(DATA)))
    assert [step.result().number for step in steps] == list(range(1, len(DATA) + 1))
    assert not steps[-1].result().others
    (move,) = training.moves
    assert (move.lost, move.rack, move.step) == (lost, racks[0].url, 3)
    assert training.checkpoint().step == len(DATA)
    with pytest.raises(CleaningUnproven, match=lost):
        session.close()


def test_one_rack_is_no_team(racks: tuple[Rack, Rack], policy: Policy) -> None:
    """More racks than the pool has, and one rack under two addresses, are errors, and leave no session behind."""
    with HostileHost(racks[0].port) as twin:
        pools: list[tuple[list[str], str]] = [
            ([racks[0].url], "2 racks"),
            ([racks[0].url, twin.url], "another address"),
        ]
        for urls, why in pools:
            session = connect_pool(urls, policy)
            with pytest.raises(HeteeError, match=why):
                session.train(JOB, onnx=NETWORK, racks=2)
            session.close()


def test_the_command_trains_on_two_racks(racks: tuple[Rack, Rack], policy: Policy, tmp_path: Path) -> None:
    """`train --racks 2` reaches the accuracy of one rack, and says how many racks trained."""
    pytest.importorskip("sklearn", reason="scikit-learn, in whose package the digits are")
    file = tmp_path / "policy.json"
    file.write_bytes(msgspec.json.encode(policy))
    words = ["train", "mlp", "--data", "digits", "--epochs", "2", "--racks", "2", "--policy", str(file), "--json"]
    words += [word for rack in racks for word in ("--rack", rack.url)]
    done = CliRunner().invoke(hetee, [*words, "--receipts", str(tmp_path / "receipts")])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["racks_together"], found["accelerators"]) == (2, 2)
    assert found["accuracies"][-1] > 0.85
    assert [rack["answered"] for rack in found["racks"]] == [46, 46]
    assert len(list((tmp_path / "receipts").glob("*.json"))) == 92
    refused = CliRunner().invoke(hetee, [*words[:6], "--racks", "3", *words[8:]])
    assert refused.exit_code
    assert "3 racks" in str(refused.exception)
