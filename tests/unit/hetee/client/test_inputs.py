"""Inputs become exactly the tensors and bytes that the specification defines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sectum.hetee.client.connection import parse_url
from sectum.hetee.client.inputs import IMAGENET, input_tensors
from sectum.hetee.client.plaintext import Plaintext
from sectum.hetee.client.results import arrays
from sectum.hetee.data_plane.messages import Pixels, Slot
from sectum.hetee.errors import HeteeError, Refusal, ServiceRefused, WorkRefused

FLOATS = Slot(name="x", dtype="float32", shape=("N", 3, 8, 8))
JPEG = b"\xff\xd8\xff" + b"0123456789"


@given(st.lists(st.binary(max_size=70), max_size=8), st.integers(1, 40))
def test_chunks_are_the_plaintext_cut_to_size(parts: list[bytes], chunk_bytes: int) -> None:
    """Joined, the chunks are the parts; all but the last have the chunk size, and there are as many as announced."""
    plaintext = Plaintext([memoryview(part) for part in parts], chunk_bytes)
    chunks = [b"".join(map(bytes, chunk)) for chunk in plaintext.cut()]
    assert b"".join(chunks) == b"".join(parts)
    assert plaintext.total == sum(map(len, parts))
    assert len(chunks) == plaintext.chunks
    assert all(len(chunk) == chunk_bytes for chunk in chunks[:-1])


def test_a_tensor_in_one_piece_of_memory_is_not_copied() -> None:
    """Chunks of an array are views of the array's own memory."""
    array = np.arange(1000, dtype=np.float32).reshape(10, 100)
    (piece,) = input_tensors(array, [Slot(name="x", dtype="float32", shape=("N", 100))], None)
    chunks = list(Plaintext.of([piece], 1024).cut())
    assert all(len(chunk) == 1 for chunk in chunks)
    array[0, 0] = 7.0
    assert np.frombuffer(chunks[0][0], np.float32)[0] == 7.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["uint8", "int64", "float16", "float32", "bool", "complex64"]),
            st.lists(st.integers(0, 5), max_size=3),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_arrays_travel_and_come_back(described: list[tuple[str, list[int]]]) -> None:
    """Several arrays of any type and shape, laid out and read back, are what they were."""
    given_arrays = {
        str(number): np.random.default_rng(number).integers(0, 2, shape).astype(dtype)
        for number, (dtype, shape) in enumerate(described)
    }
    slots = [Slot(name=name, dtype=array.dtype.name, shape=array.shape) for name, array in given_arrays.items()]
    made = input_tensors(given_arrays, slots, None)
    data = b"".join(bytes(part) for chunk in Plaintext.of(made).cut() for part in chunk)
    back = arrays(tuple(piece.tensor for piece in made), memoryview(bytearray(data)))
    for name, array in given_arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_texts_travel_as_utf8() -> None:
    """An array of strings comes back as the same strings, whatever characters they hold."""
    texts = np.array([["a", "é"], ["", "日本"]], object)
    made = input_tensors(texts, [Slot(name="t", dtype="string", shape=(2, 2))], None)
    data = b"".join(bytes(part) for chunk in Plaintext.of(made).cut() for part in chunk)
    back = arrays((made[0].tensor,), memoryview(bytearray(data)))
    assert back["t"].tolist() == texts.tolist()


def test_an_array_that_is_not_in_order_is_put_in_order() -> None:
    """Transposed, reversed and big-endian arrays travel as C order, little-endian."""
    array = np.arange(12, dtype=">i4").reshape(3, 4).T[::-1]
    (piece,) = input_tensors(array, [Slot(name="x", dtype="int32", shape=(4, 3))], None)
    assert b"".join(map(bytes, piece.parts)) == np.ascontiguousarray(array).astype("<i4").tobytes()


def test_jpegs_are_taken_from_paths_and_bytes(tmp_path: Path) -> None:
    """Files and bytes become one tensor with the size of each, normalised as ImageNet unless said otherwise."""
    path = tmp_path / "a.jpg"
    path.write_bytes(JPEG)
    (piece,) = input_tensors([path, str(path), JPEG + b"x"], [FLOATS], None)
    assert (piece.tensor.encoding, piece.tensor.shape, piece.tensor.sizes) == ("jpeg", (3,), (13, 13, 14))
    assert piece.tensor.pixels == (IMAGENET,)
    (piece,) = input_tensors(JPEG, [FLOATS], Pixels(std=(255.0,)))
    assert piece.tensor.pixels == (Pixels(std=(255.0,)),)


def test_pixels_belong_to_bytes_for_floats_only() -> None:
    """Arrays of floats are never normalised."""
    floats = np.zeros((1, 3, 8, 8), np.float32)
    assert input_tensors(floats, [FLOATS], IMAGENET)[0].tensor.pixels == ()
    assert input_tensors(floats.astype(np.uint8), [FLOATS], IMAGENET)[0].tensor.pixels == (IMAGENET,)


@pytest.mark.parametrize(
    ("inputs", "slots", "said"),
    [
        (np.zeros(3), [FLOATS, Slot(name="y", dtype="float32", shape=())], "2 inputs"),
        ({"z": np.zeros(3)}, [FLOATS], "['x']"),
        (["/nowhere/a.jpg"], [FLOATS], "cannot be read"),
        ([b"\x89PNG\r\n"], [FLOATS], "not a JPEG"),
        (np.zeros(3, "datetime64[s]"), [FLOATS], "datetime64"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_sent(inputs: Any, slots: list[Slot], said: str) -> None:
    """Each mistake is an INPUT_REFUSED that says what was expected."""
    with pytest.raises(WorkRefused) as caught:
        input_tensors(inputs, slots, None)
    assert caught.value.code is Refusal.INPUT_REFUSED
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("hetee://10.0.0.7:99", ("10.0.0.7", 99)),
        ("localhost", ("localhost", 7625)),
        ("[::1]:80", ("::1", 80)),
        ("hetee://rack.example/", ("rack.example", 7625)),
    ],
)
def test_addresses_are_read(url: str, address: tuple[str, int]) -> None:
    """Scheme and port may be missing."""
    assert parse_url(url) == address


@given(st.text(max_size=30))
def test_what_is_no_address_is_refused(text: str) -> None:
    """Any text gives an address or a ServiceRefused, never another error."""
    try:
        name, port = parse_url(text)
    except ServiceRefused:
        return
    assert name
    assert 0 < port < 65536


def test_a_result_that_contradicts_itself_is_refused() -> None:
    """Two outputs of one name, or text that is not UTF-8, are refused."""
    tensor = input_tensors(np.zeros(4, np.uint8), [Slot(name="x", dtype="uint8", shape=(4,))], None)[0].tensor
    with pytest.raises(HeteeError):
        arrays((tensor, tensor), memoryview(bytearray(68)))
    with pytest.raises(HeteeError):
        arrays((tensor,), memoryview(bytearray(5)))
