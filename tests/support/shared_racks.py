"""A pytest plugin: racks whose workers can train, and the files that share them, because their start takes long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hetee_rack import Rack

SHARING = (
    "tests/attacks/hetee/test_gradients.py",
    "tests/attacks/hetee/test_training.py",
    "tests/e2e/test_hetee_gradients.py",
)
"""They run in one process, one after the other."""


@pytest.fixture(scope="session")
def training_racks() -> Iterator[tuple[Rack, Rack]]:
    """Two racks whose workers can train, with more accelerators than a test uses."""
    from hetee_rack import Rack

    with ExitStack() as stack:
        first, second = (Rack("cpu=3", training=True, arguments=["--spares", "1"]) for _ in range(2))
        yield stack.enter_context(first), stack.enter_context(second)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """Each file goes to one process, as with ``--dist loadfile``, and the files that share racks to the same."""
    if config.option.dist != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return SHARING[0] if file in SHARING else file

    return Files(config, log)
