"""A batch's tensors become a model's inputs as soon as their bytes are there, and only if they fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hetee_worker_samples import jpeg
from sectum.hetee.data_plane.messages import Pixels, Slot, Tensor
from sectum.hetee.data_plane.tensors import layout
from sectum.hetee.errors import HeteeError, Refusal
from sectum.hetee.worker.buffers import Buffers
from sectum.hetee.worker.models import CheckedModel
from sectum.hetee.worker.preparation import Preparation, as_tensor


def model(*slots: tuple[str, str, tuple]) -> CheckedModel:
    return CheckedModel(b"", bytes(32), tuple(Slot(name=n, dtype=d, shape=s) for n, d, s in slots), ())


def prepare(tensors: list[Tensor], parts: list[bytes], target: CheckedModel, **options) -> Preparation:
    places = layout(tuple(tensors))
    data = bytearray(places[-1].end)
    for place, part in zip(places, parts, strict=True):
        data[place.begin : place.end] = part
    preparation = Preparation(places, target.inputs, memoryview(data), Buffers(0).take, **options)
    for task in preparation.due(len(data)):
        task()
    return preparation


def refused(tensors: list[Tensor], target: CheckedModel) -> str:
    places = layout(tuple(tensors))
    with pytest.raises(HeteeError) as caught:
        Preparation(places, target.inputs, memoryview(bytearray(places[-1].end)), Buffers(0).take)
    assert caught.value.code is Refusal.INPUT_REFUSED
    return caught.value.detail


def test_raw_tensors_are_not_copied() -> None:
    """What needs no conversion is computed on where it was opened."""
    places = layout((Tensor(name="x", dtype="float32", shape=(2, 3)),))
    data = bytearray(24)
    preparation = Preparation(places, model(("x", "float32", ("n", 3))).inputs, memoryview(data), Buffers(0).take)
    data[0:4] = np.float32(1.5).tobytes()
    assert preparation.arrays["x"][0, 0] == 1.5
    assert preparation.due(24) == []
    assert preparation.items == 2


@given(st.integers(1, 40), st.data())
def test_items_are_due_when_their_last_byte_is_there(n: int, draw: st.DataObject) -> None:
    """Each task is given once, never before its bytes have arrived, and all are given at the end."""
    images = np.random.default_rng(n).integers(0, 256, (n, 3, 2, 2), np.uint8)
    tensor = Tensor(name="x", dtype="uint8", shape=images.shape, pixels=(Pixels(std=(2.0,)),))
    data = bytearray(images.nbytes)
    preparation = Preparation(
        layout((tensor,)), model(("x", "float32", ("n", 3, 2, 2))).inputs, memoryview(data), Buffers(0).take
    )
    opened, tasks = 0, 0
    while opened < len(data):
        step = draw.draw(st.integers(1, len(data) - opened))
        data[opened : opened + step] = images.tobytes()[opened : opened + step]
        opened += step
        for task in preparation.due(opened):
            task()
            tasks += 1
        whole = opened // 12
        assert np.array_equal(preparation.arrays["x"][:whole], images[:whole] / np.float32(2))
        assert tasks == whole
    assert tasks == n


def test_many_small_items_share_tasks() -> None:
    """A million items do not make a million tasks."""
    tensor = Tensor(name="x", dtype="uint8", shape=(10_000, 1, 1, 1), pixels=(Pixels(),))
    data = memoryview(bytearray(10_000))
    preparation = Preparation(layout((tensor,)), model(("x", "float32", ("n", 1, 1, 1))).inputs, data, Buffers(0).take)
    assert len(preparation.due(10_000)) <= 256


def test_jpegs_become_items() -> None:
    """Each file becomes the item of its place, normalised."""
    files = [jpeg(9, 9), jpeg(7, 12)]
    tensor = Tensor(
        name="x",
        dtype="uint8",
        shape=(2,),
        encoding="jpeg",
        sizes=tuple(map(len, files)),
        pixels=(Pixels(mean=(255.0,)),),
    )
    array = prepare([tensor], [b"".join(files)], model(("x", "float32", ("n", 3, 8, 8)))).arrays["x"]
    assert array.shape == (2, 3, 8, 8)
    assert array.max() <= 0
    assert array.min() >= -255
    assert not np.array_equal(array[0], array[1])
    whole = prepare([tensor_without_pixels(tensor)], [b"".join(files)], model(("x", "uint8", ("n", 8, 8, 3)))).arrays[
        "x"
    ]
    assert np.array_equal(whole.transpose(0, 3, 1, 2), array + 255)


def tensor_without_pixels(tensor: Tensor) -> Tensor:
    return Tensor(name="x", dtype="uint8", shape=tensor.shape, encoding="jpeg", sizes=tensor.sizes)


def test_bytes_without_pixels_are_taken_as_they_are() -> None:
    """A uint8 tensor for a float input keeps its numbers, whatever its rank."""
    array = prepare(
        [Tensor(name="x", dtype="uint8", shape=(3,))], [b"\x00\x07\xff"], model(("x", "float16", (3,)))
    ).arrays["x"]
    assert array.tolist() == [0, 7, 255]
    assert array.dtype == np.float16


def test_text_becomes_strings() -> None:
    """Strings are cut at their sizes, and text that is not UTF-8 is refused."""
    tensor = Tensor(name="x", dtype="string", shape=(1, 2), encoding="utf8", sizes=(2, 3))
    target = model(("x", "string", (1, 2)))
    assert prepare([tensor], ["é€".encode()], target).arrays["x"].tolist() == [["é", "€"]]
    with pytest.raises(HeteeError, match="UTF-8"):
        prepare([tensor], [b"\xff" * 5], target)


def test_paced_preparation_reads_nothing() -> None:
    """Where a published time stands for decoding, what the bytes are does not matter."""
    tensor = Tensor(name="x", dtype="uint8", shape=(2,), encoding="jpeg", sizes=(1, 1))
    assert prepare([tensor], [b"no"], model(("x", "float32", ("n", 3, 8, 8))), paced=True).arrays["x"].shape == (
        2,
        3,
        8,
        8,
    )


def test_refuses_what_the_model_does_not_take() -> None:
    """Other names, types, shapes or declarations than the model's are refused with what was expected."""
    target = model(("x", "float32", ("n", 3, 4, 4)))
    x = {"name": "x", "dtype": "float32", "shape": (1, 3, 4, 4)}
    assert "'z'" in refused([Tensor(**x | {"name": "z"})], target)
    assert "'x', 'x'" in refused([Tensor(**x), Tensor(**x)], target)
    assert "float64" in refused([Tensor(**x | {"dtype": "float64"})], target)
    assert "[1, 3, 4, 5]" in refused([Tensor(**x | {"shape": (1, 3, 4, 5)})], target)
    refused([Tensor(**x | {"shape": (3, 4, 4)})], target)
    refused([Tensor(**x, pixels=(Pixels(),))], target)
    u8 = x | {"dtype": "uint8"}
    refused([Tensor(**u8, pixels=(Pixels(size=(4, 4)),))], target)
    refused([Tensor(**u8 | {"shape": (48,)}, pixels=(Pixels(),))], target)
    refused([Tensor(name="x", dtype="uint8", shape=(1 << 14,), encoding="jpeg", sizes=(1,) * (1 << 14),
                    pixels=(Pixels(size=(8192, 8192)),))], model(("x", "float32", ("n", 3, "h", "w"))))  # fmt: skip


_PIXELS = st.builds(
    Pixels,
    layout=st.sampled_from(["nchw", "nhwc"]),
    mean=st.lists(st.floats(-300, 300), max_size=4).map(tuple),
    std=st.lists(st.floats(0.1, 300), max_size=4).map(tuple),
    bgr=st.booleans(),
    size=st.lists(st.integers(1, 9), max_size=2).map(tuple),
    shorter=st.integers(0, 9),
)
_SHAPES = st.lists(st.integers(0, 4), max_size=5).map(tuple)
_TENSORS = st.builds(
    Tensor,
    name=st.sampled_from("xy"),
    dtype=st.sampled_from(["uint8", "float32", "string", "bool", "complex64"]),
    shape=_SHAPES,
    encoding=st.sampled_from(["raw", "jpeg", "utf8"]),
    sizes=st.lists(st.integers(0, 5), max_size=3).map(tuple),
    pixels=st.lists(_PIXELS, max_size=1).map(tuple),
)
_SLOTS = st.builds(
    Slot,
    name=st.sampled_from("xy"),
    dtype=st.sampled_from(["uint8", "float32", "float16", "string"]),
    shape=st.lists(st.one_of(st.integers(0, 4), st.sampled_from(["n", "?", "..."])), max_size=5).map(tuple),
)


@given(st.lists(_TENSORS, max_size=3), st.lists(_SLOTS, max_size=2, unique_by=lambda slot: slot.name), st.booleans())
def test_whatever_a_batch_says_it_is_prepared_or_refused(tensors: list[Tensor], slots: list[Slot], paced: bool) -> None:
    """No description of a batch, however odd, raises anything but a refusal that ends its stream."""
    target, error = CheckedModel(b"", bytes(32), tuple(slots), ()), None
    try:
        places = layout(tuple(tensors))
        data = memoryview(bytearray(places[-1].end if places else 0))
        preparation = Preparation(places, target.inputs, data, Buffers(0).take, paced=paced)
        for task in preparation.due(len(data)):
            task()
    except HeteeError as caught:
        error = caught
    if error is None:
        assert set(preparation.arrays) == {slot.name for slot in slots}
    else:
        assert error.code in (Refusal.BAD_TENSOR, Refusal.INPUT_REFUSED)


@given(st.sampled_from(["float32", "float16", "int64", "bool", "uint8"]), st.lists(st.integers(0, 4), max_size=3))
def test_outputs_travel_without_a_copy(dtype: str, shape: list[int]) -> None:
    """An output in order is described and sent from where the runtime wrote it; any other is the same after a copy."""
    array = np.zeros(shape, dtype)
    tensor, data = as_tensor("y", array)
    assert (tensor.dtype, tensor.shape, len(data)) == (dtype, tuple(shape), array.nbytes)
    if array.nbytes:
        array.reshape(-1)[0] = 1
        assert any(data)
    assert bytes(as_tensor("y", array.T)[1]) == array.T.tobytes()


def test_strings_travel() -> None:
    """An output of strings goes out as UTF-8 with the size of each."""
    tensor, data = as_tensor("y", np.array([["a", "é"]], object))
    assert (tensor.encoding, tensor.sizes, bytes(data)) == ("utf8", (1, 2), "aé".encode())
