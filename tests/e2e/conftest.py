"""A real rack for the tests that share one."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hetee_rack import Rack


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    """One rack for a module, with one real and two paced accelerators."""
    from hetee_rack import Rack

    with Rack("cpu=1,paced=2") as started:
        yield started


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CNN of the zoo, its number of images open."""
    from sectum import zoo

    path = tmp_path_factory.mktemp("models") / "classifier.onnx"
    path.write_bytes(zoo.to_bytes(zoo.network("squeezenet1_1", resolution=64)))
    return path


@pytest.fixture(scope="session")
def photographs() -> list[Path]:
    """Real JPEGs that ship in packages."""
    spec = importlib.util.find_spec("sklearn")
    if spec is None or spec.origin is None:
        pytest.skip("scikit-learn, in whose package the pictures are, is not installed")
    folder = Path(spec.origin).parent / "datasets" / "images"
    return [folder / "china.jpg", folder / "flower.jpg"]
