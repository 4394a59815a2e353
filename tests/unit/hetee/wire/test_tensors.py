"""The layout of tensors in a stream."""

from __future__ import annotations

import pytest

from sectum.hetee.data_plane.messages import Tensor
from sectum.hetee.data_plane.tensors import layout, n_bytes
from sectum.hetee.errors import MessageRefused, Refusal


def raw(dtype: str, *shape: int) -> Tensor:
    return Tensor("x", dtype, shape)  # type: ignore[arg-type]


def test_tensors_are_aligned_and_the_total_is_the_last_end() -> None:
    """Each tensor begins at the next multiple of 64 bytes; nothing follows the last."""
    places = layout((raw("uint8", 3), raw("float32", 2, 2), raw("int64")), total=136)
    assert [(place.begin, place.end) for place in places] == [(0, 3), (64, 80), (128, 136)]


def test_items_of_a_jpeg_tensor_end_where_their_sizes_say() -> None:
    """A worker knows where each image ends before all images have arrived."""
    tensor = Tensor("images", "uint8", (3,), "jpeg", (10, 0, 5))
    places = layout((raw("uint8", 1), tensor))
    assert places[1].ends == (74, 74, 79)
    assert places[1].end == 79


def test_no_tensors_are_no_bytes() -> None:
    """An empty list has an empty stream."""
    assert layout((), total=0) == ()


def test_empty_tensors_are_allowed() -> None:
    """A shape with a zero has no bytes, whatever else is in it that an array can have."""
    assert n_bytes(raw("float64", 2**15, 0, 2**16)) == 0
    assert n_bytes(Tensor("s", "string", (0,), "utf8")) == 0


@pytest.mark.parametrize(
    "tensor",
    [
        raw("string", 2),
        raw("float64", 0, 2**31 - 1, 2**31 - 1),
        raw("float32", 1 << 15, 1 << 15),
        raw("uint8", *(2**31 - 1,) * 8),
        Tensor("x", "uint8", (2,), "raw", (1, 1)),
        Tensor("x", "uint8", (2,), "jpeg", (1,)),
        Tensor("x", "uint8", (1, 1), "jpeg", (1,)),
        Tensor("x", "float32", (1,), "jpeg", (1,)),
        Tensor("x", "uint8", (1,), "utf8", (1,)),
        Tensor("x", "string", (1,), "utf8", ()),
        Tensor("x", "string", (2,), "utf8", (2 << 30, 1)),
    ],
)
def test_contradictions_are_refused(tensor: Tensor) -> None:
    """Shape, dtype, encoding and sizes have to agree, and to fit into a stream."""
    with pytest.raises(MessageRefused) as caught:
        n_bytes(tensor)
    assert caught.value.code is Refusal.BAD_TENSOR


@pytest.mark.parametrize("total", [0, 79, 81])
def test_another_total_is_refused(total: int) -> None:
    """What the header announces has to be what the tensors need."""
    with pytest.raises(MessageRefused):
        layout((raw("uint8", 3), raw("float32", 2, 2)), total=total)


def test_all_together_have_to_fit() -> None:
    """Tensors that fit one by one may be too much together."""
    with pytest.raises(MessageRefused):
        layout((raw("uint8", 2 << 30), raw("uint8", 1)))
