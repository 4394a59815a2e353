"""Shapes of layers are those that ONNX Runtime computes, and what does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from drawing import examples
from sectum import zoo
from sectum.errors import ShapeInconsistent
from sectum.zoo import layers as ly
from sectum.zoo.architecture import Builder
from sectum.zoo.variation import make_divisible

Run = Callable[[bytes, int, int], NDArray[np.float32]]

SIZES = st.tuples(st.integers(1, 5), st.integers(1, 5))


@examples(60)
@given(
    resolution=st.integers(1, 20),
    kernel=SIZES,
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    pads=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    kind=st.sampled_from(["conv", "max", "max_ceil", "average"]),
)
def test_windows_fit_as_often_as_in_the_runtime(
    run_model: Run,
    resolution: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[float, float],
    kind: str,
) -> None:
    """Output sizes of convolutions and pools equal the runtime's, and a window too large for its input is refused."""
    padding = (int(pads[0] * (kernel[0] // 2)), int(pads[1] * (kernel[1] // 2)))
    layer: ly.Layer
    if kind == "conv":
        layer = ly.Conv(2, kernel, stride, padding)
    else:
        layer = ly.Pool(kind != "average", kernel, stride, padding, kind == "max_ceil")
    builder = Builder("one_layer", "test", resolution)
    try:
        arch = builder.finish(builder.add(layer, builder.input))
    except ShapeInconsistent:
        assert any(resolution + 2 * p < k for p, k in zip(padding, kernel, strict=True))
        return
    output = run_model(zoo.to_bytes(arch), resolution, 2)
    assert output.shape == (2, *arch.shapes[arch.output])


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (ly.Conv(4, (3, 3)), [(8,)]),
        (ly.Conv(4, (3, 3)), [(8, 2, 2)]),
        (ly.Conv(4, (1, 1), groups=3), [(9, 2, 2)]),
        (ly.Pool(True, (3, 3), (1, 1)), [(8, 2, 2)]),
        (ly.GlobalAveragePool(), [(8,)]),
        (ly.Flatten(), [(8,)]),
        (ly.Permute(channels_last=True), [(8,)]),
        (ly.Add(), [(8, 2, 2), (8, 2, 1)]),
        (ly.Add(), [(8, 2, 2)]),
        (ly.Gate(), [(8, 2, 2), (4, 1, 1)]),
        (ly.Concat(), [(8, 2, 2), (8, 4, 4)]),
        (ly.Split((4, 5)), [(8, 2, 2)]),
        (ly.Split((8, 0)), [(8, 2, 2)]),
        (ly.ChannelShuffle(3), [(8, 2, 2)]),
        (ly.BatchNorm(), [(8, 2, 2), (8, 2, 2)]),
    ],
)
def test_inputs_that_a_layer_cannot_take_are_refused_with_their_shapes(layer: ly.Layer, shapes: list[ly.Shape]) -> None:
    """A layer refuses input shapes that it cannot take, and names itself."""
    with pytest.raises(ShapeInconsistent, match=type(layer).__name__):
        layer.shapes(tuple(shapes))


def test_a_shuffle_interleaves_the_groups(run_model: Run) -> None:
    """After a shuffle of two equal groups, each channel stands next to its equal."""
    builder = Builder("shuffle", "test", 2)
    x = builder.add(ly.Concat(), builder.input, builder.input)
    arch = builder.finish(builder.add(ly.ChannelShuffle(2), x))
    output = run_model(zoo.to_bytes(arch), 2, 3)
    np.testing.assert_array_equal(output[:, 0::2], output[:, 1::2])


def test_names_within_a_network_are_unique() -> None:
    """No two nodes of a network have the same name."""
    for name in zoo.names():
        nodes = [node.name for node in zoo.network(name).nodes]
        assert len(set(nodes)) == len(nodes), name


@pytest.mark.parametrize(("channels", "rounded"), [(24, 24), (16.8, 16), (29, 32), (27, 32), (10, 16), (1, 8)])
def test_channels_round_to_eights_but_never_by_more_than_a_tenth_down(channels: float, rounded: int) -> None:
    """Channel counts round to multiples of eight, and up where rounding down would lose over a tenth."""
    assert make_divisible(channels) == rounded
