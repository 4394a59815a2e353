"""A pytest plugin: a skip whose reason is not on the list of allowed skips is a failure."""

from __future__ import annotations

import tomllib
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

import pytest

LIST = Path(__file__).resolve().parents[1] / "allowed_skips.toml"
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


class SkipList:
    """Holds the allowed reasons; a report of any other skip becomes the report of a failure."""

    def __init__(self, *, without_extras: bool) -> None:
        sections = tomllib.loads(LIST.read_text(encoding="utf-8"))
        self._reasons = [*sections["anywhere"], *(sections["without-extras"] if without_extras else ())]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Checks a test."""
        return self._checked((yield))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Checks a module, which is skipped as a whole where an import is missing."""
        return self._checked((yield))

    def _checked(self, report: Report) -> Report:
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            if not any(allowed in reason for allowed in self._reasons):
                report.outcome = "failed"
                report.longrepr = (
                    f"{reason}\nThis reason is not in tests/{LIST.name}. Install what is missing, or list the reason."
                    "\nIf optional packages are missing on purpose, run pytest with --without-extras."
                )
        return report
