"""A pytest plugin: marks folders of slow tests, and fails any other test that starts a process or imports PyTorch.

So ``-m "not slow"`` selects tests that start no process and need no PyTorch.
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
STARTS = ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.exec")


class SlowTests:
    """Knows whether the test that runs may start processes."""

    def __init__(self) -> None:
        self._quick = False
        sys.addaudithook(self._audit)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Marks what is in the folders of slow tests."""
        for item in items:
            if any(item.path.is_relative_to(folder) for folder in SLOW_FOLDERS):
                item.add_marker(pytest.mark.slow)

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
