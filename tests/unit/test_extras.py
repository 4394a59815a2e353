"""Optional libraries are imported where they are needed, or it is said how to install them."""

from __future__ import annotations

import math
import tomllib

import pytest

from places import ROOT
from sectum.errors import UsageError
from sectum.extras import need_extra, require


def test_a_module_that_is_there_is_imported() -> None:
    """The caller gets the module itself."""
    assert require("math", "counting needs a library", "train") is math


def test_a_module_that_is_missing_is_an_error_with_what_to_install() -> None:
    """It names what needs the library, and a command that works in a checkout; there is no package index to ask."""
    with pytest.raises(
        UsageError, match=r"needs nothing\. In a checkout .* scripts/setup train, .* install '\.\[train\]'"
    ):
        require("sectum_nothing", "this needs nothing", "train")


def test_the_extras_that_errors_name_exist() -> None:
    """The installation that an error asks for is one that pyproject.toml has."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {"train", "ray"} <= set(extras)


def test_a_missing_extra_is_named_with_the_command_that_installs_it() -> None:
    """The message works for a checkout, which is the only way to install Sectum."""
    with pytest.raises(UsageError, match=r"^drawing needs nowhere\. In a checkout") as told:
        need_extra("train", "drawing", "json", "nowhere")
    assert "scripts/setup train" in str(told.value)


def test_an_installed_extra_is_not_mentioned() -> None:
    """With all modules present nothing happens."""
    need_extra("train", "drawing pictures", "json")
