"""Names, their arguments, and what is refused."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from sectum import zoo
from sectum.errors import ShapeInconsistent, UnknownNetwork, UsageError


def test_an_unknown_name_is_answered_with_those_that_are_close() -> None:
    """The error on an unknown name suggests the names that are close to it."""
    with pytest.raises(UnknownNetwork, match="resnet50"):
        zoo.network("resnet-5O")


def test_a_name_like_no_other_is_answered_with_all_names() -> None:
    """The error on a name that is close to none lists all names."""
    with pytest.raises(UnknownNetwork, match=r"known are alexnet, .*vgg19_bn"):
        zoo.network("zzzzzz")


def test_an_unknown_family_is_answered_with_those_that_are_close() -> None:
    """The error on an unknown family suggests the families that are close to it."""
    with pytest.raises(UnknownNetwork, match="mobilenet_v3"):
        zoo.sample("mobilenetv3", random.Random(0))


def test_dashes_and_capitals_in_a_name_are_forgiven() -> None:
    """Dashes and capitals in a name make no difference."""
    assert zoo.network("EfficientNet-B1") == zoo.network("efficientnet_b1")


@pytest.mark.parametrize(("name", "resolution"), [("resnet50", 224), ("efficientnet_b3", 300), ("inception_v3", 299)])
def test_the_resolution_is_the_published_one_unless_given(name: str, resolution: int) -> None:
    """A network has its published resolution unless another is given."""
    assert zoo.network(name).resolution == resolution
    assert zoo.network(name, resolution=128).resolution == 128


@pytest.mark.parametrize("name", zoo.names())
def test_half_the_width_is_a_valid_and_smaller_network(name: str) -> None:
    """Every network can be built at half its width and then has fewer parameters."""
    assert zoo.network(name, width=0.5).parameters < 0.8 * zoo.network(name).parameters


def test_width_scales_mobilenet_v2_as_published() -> None:
    """MobileNetV2 at half width has the published number of parameters."""
    # 1.97 M: timm's table for mobilenetv2_050, the same network at half width.
    assert round(zoo.network("mobilenet_v2", width=0.5).parameters / 1e6, 2) == 1.97


def test_classes_are_the_outputs_of_the_last_layer() -> None:
    """The number of classes is the length of the output."""
    arch = zoo.network("squeezenet1_1", classes=7)
    assert arch.shapes[arch.output] == (7,)


@pytest.mark.parametrize("arguments", [{"width": 0.0}, {"resolution": 0}, {"classes": 0}, {"width": float("nan")}])
def test_numbers_out_of_range_are_refused(arguments: dict[str, float]) -> None:
    """A width, resolution or number of classes that is not above zero is a usage error."""
    with pytest.raises(UsageError, match="out of range"):
        zoo.network("resnet18", **arguments)  # type: ignore[arg-type]


def test_a_resolution_too_small_for_a_network_is_refused_with_the_layer_and_what_to_do() -> None:
    """A resolution that a layer cannot take is refused with the layer's name and the advice to choose a larger one."""
    with pytest.raises(ShapeInconsistent, match=r"Pool.*choose a larger resolution"):
        zoo.network("alexnet", resolution=32)


@pytest.mark.slow
def test_importing_the_zoo_and_listing_its_names_loads_neither_numpy_nor_onnx_nor_torch() -> None:
    """Listing the names of the zoo loads no numerical library."""
    program = (
        "import sys; from sectum import zoo; zoo.names(); "
        "sys.exit(' '.join({'numpy', 'onnx', 'onnxruntime', 'torch'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_attribute_that_the_zoo_lacks_is_an_attribute_error() -> None:
    """The lazy module raises AttributeError for a name that it does not have."""
    with pytest.raises(AttributeError, match="nothing"):
        _ = zoo.nothing
