"""Confidential inference with real processes, from JPEG to signed receipt."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from hetee_rack import Rack, until
from sectum.hetee.client import Optimiser, TrainingJob, connect_async
from sectum.hetee.client.inputs import IMAGENET
from sectum.hetee.client.small_networks import small_network
from sectum.hetee.data_plane.messages import Pace, Pixels
from sectum.hetee.errors import Refusal, ServiceRefused, WorkRefused


def alone(model: Path, images: np.ndarray) -> np.ndarray:
    """What ONNX Runtime alone makes of the same numbers."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


def decoded(files: list[Path], side: int) -> np.ndarray:
    """JPEGs as the specification says that a worker prepares them, made here with Pillow alone."""
    mean, std = (np.array(values, np.float32) for values in (IMAGENET.mean, IMAGENET.std))
    pixels = [
        np.asarray(Image.open(file).convert("RGB").resize((side, side), Image.Resampling.BILINEAR), np.float32)
        for file in files
    ]
    return ((np.stack(pixels) - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)


def test_photographs_are_classified_as_without_the_service(
    rack: Rack, classifier: Path, photographs: list[Path]
) -> None:
    """JPEG images classified in an enclave get the scores that ONNX Runtime alone computes."""
    with rack.connect() as session:
        session.load(classifier)
        result = session.infer(photographs)
    expected = alone(classifier, decoded(photographs, 64))
    (scores,) = result.outputs.values()
    np.testing.assert_allclose(scores, expected, atol=0.05 * np.abs(expected).max())
    assert (scores.argmax(1) == expected.argmax(1)).all()
    assert not result.paced


def test_a_receipt_names_model_worker_and_times(rack: Rack, classifier: Path, photographs: list[Path]) -> None:
    """The receipt names the model that was sent and the worker that was accepted, with a time for each step."""
    with rack.connect() as session:
        loaded = session.load(classifier)
        receipt = session.infer(photographs).receipt
        worker = session.trust.worker
    assert worker is not None
    assert receipt.model == loaded.digest == hashlib.sha256(classifier.read_bytes()).digest()
    assert receipt.measurement == worker.measurement
    assert receipt.items == 2
    assert receipt.hardware == "software"
    assert all(receipt.times_ns[step] > 0 for step in ("preprocess", "compute", "encryption"))


@pytest.mark.parametrize("n_bytes", [0, 1, 4096, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 3_000_000])
def test_every_size_comes_back_unchanged(rack: Rack, tmp_path: Path, n_bytes: int) -> None:
    """Batches with sizes around chunk borders come back bit for bit from an identity model.

    Alone it comes in other chunks than among others.
    """
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("Identity", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.UINT8, ["N"]) for name in "xy"]
    graph = helper.make_graph([node], "same", values[:1], values[1:])
    path = tmp_path / "same.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    data = np.random.default_rng(n_bytes).integers(0, 256, n_bytes, np.uint8)
    with rack.connect() as session:
        session.load(path)
        np.testing.assert_array_equal(session.infer(data).outputs["y"], data)
        for answer in [session.submit(data) for _ in range(3)]:
            np.testing.assert_array_equal(answer.result(30).outputs["y"], data)


def test_many_batches_on_their_way_are_each_answered_with_their_own_result(rack: Rack, classifier: Path) -> None:
    """Overlapping batches are answered once each, each with its own result."""
    random = np.random.default_rng(3)
    batches = [random.normal(size=(int(n), 3, 64, 64)).astype(np.float32) for n in random.integers(1, 6, 20)]
    with rack.connect() as session:
        session.load(classifier)
        results = [future.result(60) for future in [session.submit(batch) for batch in batches]]
    for batch, result in zip(batches, results, strict=True):
        (scores,) = result.outputs.values()
        np.testing.assert_allclose(scores, alone(classifier, batch), rtol=1e-3, atol=1e-4)


def test_uint8_images_travel_with_a_byte_a_channel(rack: Rack, classifier: Path) -> None:
    """uint8 pixels are normalised in the enclave to what the client would have sent as floats."""
    images = np.random.default_rng(5).integers(0, 256, (3, 3, 64, 64), np.uint8)
    mean, std = np.array(IMAGENET.mean), np.array(IMAGENET.std)
    floats = ((images - mean[:, None, None]) / std[:, None, None]).astype(np.float32)
    with rack.connect() as session:
        session.load(classifier)
        (scores,) = session.infer(images, pixels=IMAGENET).outputs.values()
        (unscaled,) = session.infer(images, pixels=Pixels()).outputs.values()
    np.testing.assert_allclose(scores, alone(classifier, floats), rtol=1e-3, atol=1e-3)
    assert not np.allclose(scores, unscaled)


def test_paced_says_paced_everywhere(rack: Rack, classifier: Path, photographs: list[Path]) -> None:
    """A paced accelerator takes the given time, and its results and receipts say that they are paced."""
    with rack.connect(accelerator="paced") as session:
        session.load(classifier)
        result = session.infer(photographs, pace=Pace(preprocess_us=10_000, compute_us=80_000, source="a test"))
    assert result.paced
    assert result.receipt.paced
    assert result.receipt.times_ns["compute"] >= 80_000_000
    assert result.elapsed_ms >= 90


def test_what_cannot_be_worked_on_is_refused_and_the_session_goes_on(rack: Rack, classifier: Path) -> None:
    """An invalid model, a wrong input and a missing model each give their own error, and none ends the session."""
    with rack.connect() as session:
        with pytest.raises(WorkRefused) as none:
            session.infer(np.zeros(3, np.float32))
        with pytest.raises(WorkRefused) as bad_model:
            session.load(b"this is no model")
        session.load(classifier)
        with pytest.raises(WorkRefused) as bad_input:
            session.infer(np.zeros((1, 3, 10, 10), np.float32))
        assert session.infer(np.zeros((1, 3, 64, 64), np.float32)).outputs
    codes = [caught.value.code for caught in (none, bad_model, bad_input)]
    assert codes == [Refusal.NO_MODEL, Refusal.MODEL_REFUSED, Refusal.INPUT_REFUSED]


def test_the_end_of_an_enclave_is_proved(rack: Rack, classifier: Path) -> None:
    """Closing gives a record signed by the controller: the worker wiped, its process collected, accelerators named."""
    session = rack.connect()
    session.load(classifier)
    session.infer(np.zeros((1, 3, 64, 64), np.float32))
    pid = rack.serving_pid()
    session.close()
    cleaning = session.cleaning
    assert cleaning is not None
    assert (cleaning.ended, cleaning.pid) == ("asked", pid)
    assert cleaning.exit == "killed by SIGKILL"
    assert cleaning.peak_bytes > 1 << 20
    assert list(cleaning.accelerators) == ["cpu:0"]
    assert not Path(f"/proc/{pid}").exists()


def test_an_event_loop_is_not_blocked(rack: Rack, classifier: Path) -> None:
    """The async form infers many batches at a time while the loop goes on."""

    async def main() -> tuple[int, int]:
        ticks, images = 0, np.zeros((2, 3, 64, 64), np.float32)

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        async with connect_async(rack.url, rack.policy) as session:
            await session.load(classifier)
            results = await asyncio.gather(*(session.infer(images) for _ in range(6)))
        ticking.cancel()
        return ticks, len(results)

    ticks, answered = asyncio.run(main())
    assert answered == 6
    assert ticks > 5


def test_who_comes_when_nothing_is_free_waits_or_is_told(rack: Rack, classifier: Path) -> None:
    """One CPU accelerator alternates between two sessions; a third that does not wait gets BUSY."""
    with rack.connect() as first, rack.connect() as second:
        for session in (first, second):
            session.load(classifier)
        for _ in range(2):
            assert first.infer(np.zeros((1, 3, 64, 64), np.float32)).outputs
            assert second.infer(np.zeros((1, 3, 64, 64), np.float32)).outputs
    with rack.connect(), pytest.raises(ServiceRefused) as busy:
        rack.connect(wait_s=0.0)
    assert busy.value.code is Refusal.BUSY
    with pytest.raises(ServiceRefused) as none:
        rack.connect(accelerator="cuda")
    assert none.value.code is Refusal.NO_ACCELERATOR


def test_operators_see_counts(rack: Rack, classifier: Path) -> None:
    """/health says ok, /metrics is in Prometheus' format and counts what happened."""
    assert rack.get("/health") == (200, "ok\n")
    with rack.connect() as session:
        session.load(classifier)
        session.infer(np.zeros((3, 3, 64, 64), np.float32))
        until(lambda: "sectum_hetee_worker_images_total" in rack.get("/metrics")[1], what="a sample of the worker")
    status, text = rack.get("/metrics")
    assert status == 200
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            assert name.partition("{")[0] in names
            float(value)
    assert "sectum_hetee_up 1" in text
    assert rack.get("/nothing")[0] == 404


def test_a_rack_without_training_says_so(rack: Rack) -> None:
    """A training job in a rack that was started without --training is refused with what to do."""
    job = TrainingJob(optimiser=Optimiser(kind="sgd", rate=0.1), onnx=(bytes(32),))
    with rack.connect() as session:
        with pytest.raises(WorkRefused, match="--training") as caught:
            session.train(job, onnx=small_network("mlp", (3, 8, 8), 3))
        assert caught.value.code is Refusal.MODEL_REFUSED
