"""Optional dependencies that are missing."""

from __future__ import annotations

import pytest

from sectum.cli.render.extras import need_extra
from sectum.errors import UsageError


def test_a_missing_extra_is_named_with_the_command_that_installs_it():
    """The message works for a checkout, which is the only way to install Sectum."""
    with pytest.raises(UsageError, match=r"^drawing needs nowhere\. In a checkout") as told:
        need_extra("train", "drawing", "json", "nowhere")
    assert "scripts/setup train" in str(told.value)


def test_an_installed_extra_is_not_mentioned():
    """With all modules present nothing happens."""
    need_extra("train", "drawing pictures", "json")
