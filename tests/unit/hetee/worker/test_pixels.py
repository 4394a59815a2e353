"""Bytes become the numbers that a model takes exactly as the specification says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hetee_worker_samples import jpeg
from sectum.hetee.data_plane.messages import Pixels, Slot
from sectum.hetee.errors import Refusal, WorkRefused
from sectum.hetee.worker.pixels import IMAGE_PIXELS, Conversion, decode_jpeg, image_size, layout_of

NCHW = Slot(name="x", dtype="float32", shape=("n", 3, 4, 5))
NHWC = Slot(name="x", dtype="float32", shape=("n", 4, 5, 3))


def refused(call, *arguments) -> str:
    with pytest.raises(WorkRefused) as caught:
        call(*arguments)
    assert caught.value.code is Refusal.INPUT_REFUSED
    return caught.value.detail


@given(
    st.sampled_from(["nchw", "nhwc"]),
    st.sampled_from([NCHW, NHWC]),
    st.sampled_from([(), (127.5,), (123.675, 116.28, 103.53)]),
    st.sampled_from([(), (127.5,), (58.395, 57.12, 57.375)]),
    st.booleans(),
    st.sampled_from([np.float32, np.float16]),
)
def test_normalises_as_specified(layout, slot, mean, std, bgr, dtype) -> None:
    """Whatever the layouts, each number is (x - mean) / std of its channel in float32, bit for bit."""
    images = np.random.default_rng(1).integers(0, 256, (2, 3, 4, 5), np.uint8)
    expected = images[:, ::-1] if bgr else images
    expected = (expected.astype(np.float32) - np.array(mean or 0, np.float32).reshape(-1, 1, 1)) / np.array(
        std or 1, np.float32
    ).reshape(-1, 1, 1)
    if slot is NHWC:
        expected = expected.transpose(0, 2, 3, 1)
    sent = images if layout == "nchw" else np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    out = np.empty(expected.shape, dtype)
    Conversion(Pixels(layout=layout, mean=mean, std=std, bgr=bgr), slot, layout).normalise(sent, out)
    assert np.array_equal(out, expected.astype(dtype))


def test_means_have_to_fit_the_channels() -> None:
    """A wrong number of means is refused, not broadcast over something else."""
    conversion = Conversion(Pixels(mean=(1.0, 2.0)), NCHW, "nchw")
    refused(conversion.normalise, np.zeros((1, 3, 4, 5), np.uint8), np.empty((1, 3, 4, 5), np.float32))
    refused(Conversion, Pixels(std=(float("inf"),)), NCHW, "nchw")


def test_finds_the_layout_of_a_model() -> None:
    """The channels are the dimension of size 1 or 3, and the first one if both fit."""
    assert layout_of(NHWC) == "nhwc"
    for shape in (("n", 3, 3, 3), ("n", 1, "h", "w"), ("n", "c", "h", "w"), (1, 10)):
        assert layout_of(Slot(name="x", dtype="float32", shape=shape)) == "nchw"


def test_decodes_as_pillow_does() -> None:
    """A JPEG of the right size gives the pixels that Pillow gives, in colour and in grey."""
    data = jpeg(5, 4)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(decode_jpeg(memoryview(data), 3, 4, 5), np.asarray(image))
        assert np.array_equal(decode_jpeg(memoryview(data), 1, 4, 5)[..., 0], np.asarray(image.convert("L")))


def test_scales_and_cuts() -> None:
    """With a shorter side, an image is scaled to it and its centre is taken; without, it is squeezed."""
    data = jpeg(60, 30, quality=95)
    with Image.open(io.BytesIO(data)) as image:
        scaled = image.resize((40, 20), Image.Resampling.BILINEAR)
        assert np.array_equal(decode_jpeg(memoryview(data), 3, 16, 16, 20), np.asarray(scaled.crop((12, 2, 28, 18))))
        squeezed = image.resize((16, 16), Image.Resampling.BILINEAR)
        assert np.array_equal(decode_jpeg(memoryview(data), 3, 16, 16), np.asarray(squeezed))


def test_decodes_what_cameras_write() -> None:
    """Grey, CMYK and progressive files come out as RGB."""
    for data in (jpeg(8, 8, "L"), jpeg(8, 8, "CMYK"), jpeg(8, 8, progressive=True)):
        assert decode_jpeg(memoryview(data), 3, 8, 8).shape == (8, 8, 3)


def test_refuses_what_is_no_whole_jpeg() -> None:
    """Other formats, damaged files and nothing at all are refused."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    for data in (b"", b"\xff\xd8\xff", file.getvalue(), jpeg(64, 64)[:-200]):
        assert "JPEG" in refused(decode_jpeg, memoryview(data), 3, 8, 8)


def test_refuses_a_bomb_before_decoding_it() -> None:
    """A file that announces more pixels than the limit is refused by its header."""
    data = bytearray(jpeg(8, 8))
    at = data.index(b"\xff\xc0") + 5  # height and width of the frame header
    data[at : at + 4] = (65_500).to_bytes(2) * 2
    assert str(IMAGE_PIXELS) in refused(decode_jpeg, memoryview(data), 3, 8, 8)


def test_the_limit_of_other_users_of_the_decoder_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker sets its own limit where it opens an image, and neither changes nor needs that of the process."""
    assert Image.MAX_IMAGE_PIXELS is not None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    assert decode_jpeg(memoryview(jpeg(16, 16)), 3, 8, 8).shape == (8, 8, 3)


def test_the_size_of_images_is_known() -> None:
    """Images take the model's size, or the batch's where the model leaves it open; what contradicts is refused."""
    opened = Slot(name="x", dtype="float32", shape=("n", 3, "h", "w"))
    assert image_size(Pixels(), NCHW) == (3, 4, 5)
    assert image_size(Pixels(), NHWC) == (3, 4, 5)
    assert image_size(Pixels(size=(7, 9)), opened) == (3, 7, 9)
    refused(image_size, Pixels(), opened)
    refused(image_size, Pixels(size=(7,)), opened)
    refused(image_size, Pixels(size=(7, 9), shorter=8), opened)
    refused(image_size, Pixels(), Slot(name="x", dtype="float32", shape=(1, 10)))
    refused(image_size, Pixels(), Slot(name="x", dtype="float32", shape=(1, 8, 32, 32)))
