"""What a search makes large: a published training-free score, accuracy after real training, or any function."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sectum.errors import UsageError
from sectum.extras import need_extra
from sectum.plan.search.image_folder import PREFIX, ImageFolder

Objective = Callable[[Any], float]
"""From a network to its score, of which more is better. What it is given is described in `sectum.plan.search.network`.
With several processes it must be a function that another process can import."""

NAMES = ("synflow", "naswot", "digits")
_TRAINING_FREE = ("synflow", "naswot")
_TOGETHER = 8


def named(name: str) -> Objective:
    """An objective by one of `NAMES`, a folder by ``images:FOLDER``, or a function by ``module:function``.

    Raises:
        UsageError: there is none of that name, what it needs is not installed, or the folder has no images of two
            classes.
    """
    if name == "synflow":
        from sectum.plan.search.synflow import synflow

        return synflow
    if name == "naswot":
        need_extra("torch", "the objective naswot", "torch")
        from sectum.plan.search.naswot import naswot

        return naswot
    if name == "digits":
        need_extra("torch", "the objective digits", "torch")
        need_extra("search", "the objective digits", "sklearn")
        from sectum.plan.search.digits import digits

        return digits
    if name.startswith(PREFIX):
        need_extra("torch", f"the objective {name}", "torch")
        return ImageFolder(Path(name.removeprefix(PREFIX)))
    if ":" in name:
        return function(name)
    close = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UsageError(
        f"there is no objective '{name}': {hint}Choose one of {', '.join(NAMES)}, or give images:FOLDER "
        "or module:function"
    )


def at_a_time(name: str) -> int:
    """How many architectures a process should take at a time: several where a score takes milliseconds."""
    return _TOGETHER if name in _TRAINING_FREE else 1


def function(spec: str) -> Callable[..., Any]:
    """A user's own function by ``module:function``; the module may lie in the current folder.

    Raises:
        UsageError: the module cannot be imported, or has no such function.
    """
    module_name, _, name = spec.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UsageError(f"'{spec}': the module {module_name} cannot be imported: {_said(error)}") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise UsageError(f"'{spec}': the module {module_name} has no function {name or '(write module:function)'}")
    return found  # type: ignore[no-any-return]  # callable() leaves a user's function without types


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
