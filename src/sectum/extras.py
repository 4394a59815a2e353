"""Libraries that only some commands need, and how to install them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sectum.errors import UsageError


def how_to_install(extra: str) -> str:
    """Say how an extra of pyproject.toml is installed, as a sentence without its full stop."""
    return f"In a checkout of Sectum, run scripts/setup {extra}, or .venv/bin/pip install '.[{extra}]'"


def require(module: str, purpose: str, extra: str) -> Any:
    """Import a module of an optional library.

    Args:
        module: its full name.
        purpose: what needs which library, as a sentence without its full stop.
        extra: of pyproject.toml, the one that brings the library.

    Raises:
        UsageError: it is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(f"{purpose}. {how_to_install(extra)}") from error


def need_extra(extra: str, what: str, *modules: str) -> None:
    """Check that libraries of an extra are installed, without importing them.

    Args:
        extra: of pyproject.toml.
        what: what needs them, as the subject of a sentence: "drawing pictures".
        modules: the libraries' modules.

    Raises:
        UsageError: one is missing; the message says how to install the extra.
    """
    for module in modules:
        if find_spec(module) is None:
            raise UsageError(f"{what} needs {module}. {how_to_install(extra)}")
