"""A pytest plugin: marks folders of slow tests, and fails any other test that starts a process or imports PyTorch.

So ``-m "not slow"`` selects tests that start no process and need no PyTorch. Files in which every test is slow are not
even imported then: that takes longer than many tests, above all where PyTorch is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from pathlib import Path

import numpy.testing  # noqa: F401 - some versions start lscpu when they are imported
import pytest

TESTS = Path(__file__).resolve().parents[1]
SLOW_FOLDERS = tuple(TESTS / name for name in ("softepc", "e2e", "attacks/hetee"))
"""Every test in them is slow: they start enclaves and services."""
NOT_SLOW = "not slow"
"""What is given as ``-m`` for a run without slow tests."""
SLOW_FILE = "\npytestmark = pytest.mark.slow\n"
"""Every test of a file with this line is slow."""
STARTS = ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec")


class SlowTests:
    """Knows whether the test that runs may start processes."""

    def __init__(self) -> None:
        self._quick = False
        sys.addaudithook(self._audit)

    def pytest_ignore_collect(self, collection_path: Path, config: pytest.Config) -> bool | None:
        """Leaves folders and files of slow tests out of runs without slow tests."""
        if config.option.markexpr != NOT_SLOW:
            return None
        if collection_path.suffix == ".py":
            return SLOW_FILE in collection_path.read_text(encoding="utf-8") or None
        return collection_path in SLOW_FOLDERS or None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Marks what is in the folders of slow tests, and orders files for several processes.

        Files with slow tests come first: the quick ones then fill what is left when a process has ended its last long
        file. Those of the service mostly wait, so they alternate with those that compute.
        """
        for item in items:
            if any(item.path.is_relative_to(folder) for folder in SLOW_FOLDERS):
                item.add_marker(pytest.mark.slow)
        slow = dict.fromkeys(item.path for item in items if item.get_closest_marker("slow"))
        place: dict[Path, float] = {}
        for waiting in (True, False):
            files = [path for path in slow if ("hetee" in str(path)) is waiting]
            place |= {path: number / len(files) for number, path in enumerate(files)}
        items.sort(key=lambda item: place.get(item.path, 1.0))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Watches a test with its fixtures."""
        self._quick = item.get_closest_marker("slow") is None
        try:
            return (yield)
        finally:
            self._quick = False

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._quick and (event in STARTS or (event == "import" and arguments[0] == "torch")):
            raise RuntimeError(f"a test that is not marked as slow may not do this: {event} {arguments[:1]}")
