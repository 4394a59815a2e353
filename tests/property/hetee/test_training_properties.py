"""What holds for any bytes that are sent as a training job or as a safetensors file."""

from __future__ import annotations

import contextlib
import json

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given

from sectum.hetee.errors import WorkRefused
from sectum.hetee.training.job import Optimiser, TrainingJob, read_job, write_job
from sectum.hetee.training.tensor_file import ITEM_BYTES, StoredTensor, pieces, read_tensors, write_tensors

pytestmark = pytest.mark.slow

NUMBERS = st.floats(allow_nan=True, allow_infinity=True, width=64)
OPTIMISERS = st.builds(
    Optimiser, kind=st.sampled_from(("sgd", "adam")), rate=NUMBERS, momentum=NUMBERS, beta1=NUMBERS, epsilon=NUMBERS
)
JOBS = st.builds(
    TrainingJob,
    optimiser=OPTIMISERS,
    network=st.text(max_size=300),
    classes=st.integers(-1, 200_000),
    onnx=st.lists(st.binary(min_size=31, max_size=33), max_size=2).map(tuple),
    weights=st.lists(st.binary(min_size=32, max_size=32), max_size=70).map(tuple),
    checkpoint=st.lists(st.binary(min_size=32, max_size=32), max_size=2).map(tuple),
    step=st.integers(0, 1 << 64),
    seed=st.integers(-1, 1 << 33),
)
SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)
NAMES = st.text(max_size=20).filter(lambda name: name != "__metadata__")


@given(st.binary(max_size=300) | JOBS.filter(lambda job: job.step < 1 << 63).map(msgspec.msgpack.encode))
def test_any_bytes_are_a_job_or_are_refused(content: bytes) -> None:
    """Whatever is sent as a job is refused, or is a job that is written as the same bytes."""
    with contextlib.suppress(WorkRefused):
        assert write_job(read_job(content)) == content


@given(JOBS)
def test_a_job_that_can_be_written_keeps_its_limits(job: TrainingJob) -> None:
    """A job is written only if it is within all limits, and it is then read back."""
    try:
        content = write_job(job)
    except WorkRefused:
        return
    assert read_job(content) == job
    chosen = job.optimiser
    assert all(np.isfinite([chosen.rate, chosen.momentum, chosen.beta1, chosen.epsilon]))
    assert chosen.rate >= 0
    assert bool(job.network) != bool(job.onnx)


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, StoredTensor]:
    """Tensors by name."""
    found = {}
    for name in draw(st.lists(NAMES, max_size=5, unique=True)):
        dtype, shape = draw(st.sampled_from(sorted(ITEM_BYTES))), draw(SHAPES)
        size = int(np.prod(shape, dtype=np.int64)) * ITEM_BYTES[dtype]
        found[name] = StoredTensor(dtype, shape, memoryview(draw(st.binary(min_size=size, max_size=size))))
    return found


@given(st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3), tensors())
def test_a_written_file_is_read_back(about: dict[str, str], given_: dict[str, StoredTensor]) -> None:
    """Text and tensors come back, and equal content is equal bytes."""
    content = write_tensors(about, given_)
    read = read_tensors(content)
    assert read.about == about
    assert {n: (t.dtype, t.shape, bytes(t.data)) for n, t in read.tensors.items()} == {
        n: (t.dtype, t.shape, bytes(t.data)) for n, t in given_.items()
    }
    assert write_tensors(dict(reversed(about.items())), dict(reversed(given_.items()))) == content


@given(
    tensors(), st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(1, 255)), max_size=3), st.integers(0, 1 << 20)
)
def test_a_damaged_file_is_refused_or_read(
    given_: dict[str, StoredTensor], flips: list[tuple[int, int]], length: int
) -> None:
    """A file that was changed or cut off anywhere is refused, or all its tensors lie inside it."""
    content = bytearray(b"".join(pieces({"a": "b"}, given_)))
    for at, bits in flips:
        content[at % len(content)] ^= bits
    data = bytes(content[: length % (len(content) + 1)])
    try:
        read = read_tensors(data)
    except WorkRefused:
        return
    for tensor in read.tensors.values():
        assert len(tensor.data) == int(np.prod(tensor.shape, dtype=np.int64)) * ITEM_BYTES[tensor.dtype]
    assert sum(len(tensor.data) for tensor in read.tensors.values()) <= len(data)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    )
)
def test_any_header_is_refused_or_read(header: object) -> None:
    """No JSON in a header, however odd, raises anything but the refusal."""
    text = json.dumps(header).encode()
    with contextlib.suppress(WorkRefused):
        read_tensors(len(text).to_bytes(8, "little") + text)
