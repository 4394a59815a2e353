"""Networks and families by name."""

from __future__ import annotations

import difflib
from functools import cache

from sectum.errors import UnknownNetwork, UsageError
from sectum.zoo.architecture import Architecture, Builder
from sectum.zoo.families import (
    alexnet,
    byte_cnn,
    convnext,
    decoder,
    densenet,
    detector,
    efficientnet,
    encoder,
    googlenet,
    inception,
    mixed,
    mobilenet,
    nasbench201,
    recurrent,
    regnet,
    resnet,
    segmenter,
    shufflenet,
    shufflenet_v1,
    signal_unet,
    spectrogram,
    squeezenet,
    vgg,
    vision_transformer,
)
from sectum.zoo.families.family import Assemble, Family, ProgramFamily
from sectum.zoo.program import Program, Write
from sectum.zoo.variation import Drawn, Scaled, Uniform

RESOLUTION = 224
LARGEST_RESOLUTION = 4096
WIDEST = 16.0
MOST_CLASSES = 1_000_000

_FAMILIES: tuple[Family, ...] = (
    alexnet.FAMILY,
    vgg.FAMILY,
    densenet.FAMILY,
    resnet.FAMILY,
    squeezenet.FAMILY,
    googlenet.FAMILY,
    *mobilenet.FAMILIES,
    shufflenet_v1.FAMILY,
    shufflenet.FAMILY,
    nasbench201.FAMILY,
    efficientnet.FAMILY,
    inception.FAMILY,
    regnet.FAMILY,
    convnext.FAMILY,
    mixed.FAMILY,
)

_PROGRAMS: tuple[ProgramFamily, ...] = (
    recurrent.FAMILY,
    signal_unet.FAMILY,
    spectrogram.FAMILY,
    detector.FAMILY,
    segmenter.FAMILY,
    encoder.FAMILY,
    vision_transformer.FAMILY,
    decoder.FAMILY,
    byte_cnn.FAMILY,
)


@cache
def _published() -> dict[str, tuple[Family, Assemble]]:
    return {name: (family, wire) for family in _FAMILIES for name, wire in family.published.items()}


@cache
def _sampled() -> dict[str, Family]:
    return {family.name: family for family in _FAMILIES if family.draw is not None}


def names() -> list[str]:
    """Names of the published image classifiers, as :func:`network` takes them."""
    return sorted(_published())


def families() -> list[str]:
    """Names of the families of image classifiers of which :func:`sample` makes random relatives."""
    return sorted(_sampled())


@cache
def _programs() -> dict[str, tuple[ProgramFamily, Write]]:
    return {name: (family, write) for family in _PROGRAMS for name, write in family.published.items()}


def program_names() -> list[str]:
    """Names of the published networks that are no image classifiers, as :func:`network` takes them."""
    return sorted(_programs())


def program_families() -> list[str]:
    """Names of the families of which :func:`sample` makes random relatives."""
    return sorted(family.name for family in _PROGRAMS)


def network(
    name: str, *, resolution: int | None = None, width: float = 1.0, classes: int = 1000, seed: int = 0
) -> Architecture | Program:
    """Make a published network.

    Args:
        name: one of :func:`names` or of :func:`program_names`; dashes and capitals are forgiven.
        resolution: height and width of the input in pixels; None for the published one.
        width: multiplies the channels of every layer, and the features of hidden fully connected layers; the
            products are rounded to multiples of 8.
        classes: outputs of the last layer.
        seed: from which emitters draw the weights.

    Raises:
        UnknownNetwork: no network of that name; the message names those that are close.
        UsageError: a number out of its range, or another size for a network that is no image classifier.
        ShapeInconsistent: the resolution is too small for the network.
    """
    known = name.lower().replace("-", "_")
    if known in _programs():
        if (resolution, width, classes) != (None, 1.0, 1000):
            raise UsageError(f"{known} has one size: leave width, resolution and classes out")
        written, write = _programs()[known]
        return Program(known, written.name, write, seed)
    if known not in _published():
        raise UnknownNetwork(_unknown("network", name, sorted((*names(), *program_names()))))
    family, wire = _published()[known]
    if resolution is None:
        resolution = (family.resolutions or {}).get(known, RESOLUTION)
    _check("resolution", resolution, 1, LARGEST_RESOLUTION)
    _check("width", width, 0.01, WIDEST)
    _check("classes", classes, 1, MOST_CLASSES)
    variant = "" if width == 1.0 else f"_w{width:g}"
    builder = Builder(f"{known}{variant}", family.name, resolution, seed)
    return builder.finish(wire(builder, Scaled(width), classes))


def sample(family: str, rng: Uniform, *, name: str | None = None) -> Architecture | Program:
    """Make a random relative of a family's published networks.

    Channels of each layer or block, kernel sizes and expansions of image classifiers are drawn independently and
    uniformly from the family's grid, by the recipe of nn-Meter's dataset; the resolution from the multiples of 16 or
    of 32 up to 224.

    Args:
        family: one of :func:`families` or of :func:`program_families`.
        rng: ``random.Random`` or ``numpy.random.Generator``; the same state gives the same network.
        name: the network's name; None for the family's name and 32 drawn bits.

    Raises:
        UnknownNetwork: no family of that name; the message names those that are close.
    """
    written = next((one for one in _PROGRAMS if one.name == family), None)
    if written is not None:
        seed = int(rng.random() * 2**32)
        return Program(name or f"{family}_{seed:08x}", family, written.draw(rng), seed)
    kind = _sampled().get(family)
    if kind is None or kind.draw is None:
        raise UnknownNetwork(_unknown("family", family, [*families(), *program_families()]))
    drawn = Drawn(rng, kind.grid)
    step = drawn.choose((16, 32))
    choices = [r for r in range(step, RESOLUTION + 1, step) if r >= kind.least_resolution]
    resolution = kind.only_resolution or drawn.choose(choices)
    seed = int(rng.random() * 2**32)
    builder = Builder(name or f"{family}_{seed:08x}", family, resolution, seed)
    return builder.finish(kind.draw(builder, drawn, kind.classes))


def _unknown(what: str, name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"
    return f"the zoo has no {what} called '{name}': {hint}"


def _check(what: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise UsageError(f"{what} {value} is out of range: give a number from {least:g} to {most:g}")
