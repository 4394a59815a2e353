"""For all tests: how hypothesis draws, where a calibration is stored, which skips are allowed, which tests are slow."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

import shared_racks
from drawing import FAST_SHARE, USUAL
from skip_list import SkipList
from slow_tests import NOT_SLOW, SlowTests

# A slow machine is no error, and what CI says of a commit must not depend on chance; at home every run draws anew.
settings.register_profile("home", deadline=None, max_examples=USUAL)
settings.register_profile("ci", deadline=None, max_examples=USUAL, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "home")

# A suite started in the background of a script inherits that Ctrl-C is ignored, and so would what it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option of runs with few packages."""
    parser.addoption("--without-extras", action="store_true", help="tests may be skipped where an extra is missing")


def pytest_configure(config: pytest.Config) -> None:
    """Checks every skip against tests/allowed_skips.toml, and that quick tests are quick."""
    if config.option.markexpr == NOT_SLOW:
        settings.register_profile("fast", settings(), max_examples=int(FAST_SHARE * USUAL))
        settings.load_profile("fast")
    config.pluginmanager.register(SkipList(without_extras=config.getoption("without_extras")))
    config.pluginmanager.register(SlowTests())
    config.pluginmanager.register(shared_racks)


def pytest_collection() -> None:
    """Looks for no garbage while modules are imported and tests are collected: there is none."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Lets the garbage collector start less often than by default: it took much of the time.

    What was collected is not frozen: Hypothesis asks the collector who refers to its random generators, and the
    collector does not look among frozen objects.
    """
    gc.set_threshold(20_000)
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A calibration that is stored on this machine changes no test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECTUM_HOME", str(tmp_path_factory.mktemp("home")))
        yield
