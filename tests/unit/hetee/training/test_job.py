"""The description of a training job, and safetensors files."""

from __future__ import annotations

import numpy as np
import pytest

from hetee_training import SGD, SMALL, changed
from sectum.hetee.errors import Refusal, WorkRefused
from sectum.hetee.training.job import Optimiser, TrainingJob, read_job, write_job
from sectum.hetee.training.tensor_file import StoredTensor, read_tensors, write_tensors

D = bytes(32)


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (TrainingJob(optimiser=SGD), "either a network"),
        (TrainingJob(optimiser=SGD, network="resnet18", onnx=(D,)), "either a network"),
        (TrainingJob(optimiser=SGD, onnx=(D,), classes=3), "leave them out"),
        (changed(SMALL, weights=(D,), checkpoint=(D,)), "not with both"),
        (changed(SMALL, step=3), "needs a checkpoint"),
        (changed(SMALL, optimiser=Optimiser(kind="sgd", rate=float("nan"))), "schema|finite"),
        (changed(SMALL, optimiser=Optimiser(kind="sgd", rate=-1.0)), "schema"),
        (changed(SMALL, optimiser=Optimiser(kind="adam", rate=1.0, beta2=1.0)), "schema"),
        (changed(SMALL, weights=(D,) * 65), "schema"),
        (changed(SMALL, seed=1 << 32), "schema"),
        (changed(SMALL, loss="mean"), "schema"),
        (changed(SMALL, step=1 << 64, checkpoint=(D,)), "range"),
    ],
)
def test_a_job_that_contradicts_itself_is_refused(job: TrainingJob, why: str) -> None:
    """Every rule of a job's fields is enforced before anything is sent."""
    with pytest.raises(WorkRefused, match=why) as caught:
        write_job(job)
    assert caught.value.code is Refusal.MODEL_REFUSED


def test_a_long_job_is_refused() -> None:
    """A job of more than a message's size is not parsed."""
    with pytest.raises(WorkRefused, match="the limit is"):
        read_job(bytes((64 << 10) + 1))


def test_the_structure_is_what_a_checkpoint_must_agree_with() -> None:
    """Network, sizes and kind of optimiser are of the structure; rates, seeds and files are not."""
    same = changed(SMALL, seed=9, state_every=3, optimiser=Optimiser(kind="sgd", rate=9.0))
    assert same.structure == SMALL.structure
    others = [
        changed(SMALL, network="resnet18"),
        changed(SMALL, classes=4),
        changed(SMALL, resolution=64),
        changed(SMALL, optimiser=Optimiser(kind="adam", rate=0.05)),
        TrainingJob(optimiser=SGD, onnx=(D,)),
    ]
    assert len({SMALL.structure, *(job.structure for job in others)}) == len(others) + 1


def file_of(*arrays: np.ndarray) -> bytes:
    stored = {f"t{i}": StoredTensor("F32", a.shape, memoryview(a.tobytes())) for i, a in enumerate(arrays)}
    return write_tensors({"step": "1"}, stored)


def header(text: bytes, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(7),
        (1 << 60).to_bytes(8, "little"),
        header(b"[]"),
        header(b"{}", b"x"),
        header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,3]}}', bytes(3)),
        header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', bytes(8)),
        header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(3)),
        header(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', bytes(4)),
        header(b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        header(b'{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}', bytes(4)),
        header(
            b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}',
            bytes(3),
        ),
    ],
)
def test_a_file_that_breaks_the_format_is_refused(content: bytes) -> None:
    """Lengths, places, types and shapes that contradict each other or the file are refused."""
    with pytest.raises(WorkRefused) as caught:
        read_tensors(content)
    assert caught.value.code is Refusal.MODEL_REFUSED


def test_tensors_are_not_copied() -> None:
    """A large file is read where it lies."""
    content = bytearray(file_of(np.arange(6, dtype=np.float32).reshape(2, 3)))
    tensor = read_tensors(content).tensors["t0"]
    content[-4:] = np.float32(9).tobytes()
    assert tensor.shape == (2, 3)
    assert np.frombuffer(tensor.data, np.float32)[-1] == 9


def test_the_file_is_what_safetensors_documents() -> None:
    """Eight bytes of length, JSON with text under __metadata__, padded to eight bytes, then the tensors by name."""
    content = file_of(np.ones(2, np.float32))
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    assert content[8 : 8 + length].rstrip() == (
        b'{"__metadata__":{"step":"1"},"t0":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    )
    assert content[8 + length :] == np.ones(2, np.float32).tobytes()
