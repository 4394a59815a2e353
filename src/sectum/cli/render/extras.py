"""Optional libraries: checked before work starts that needs them."""

from __future__ import annotations

from importlib.util import find_spec

from sectum.extras import require


def need_extra(extra: str, what: str, *modules: str) -> None:
    """Check that libraries of an extra are installed, without importing them.

    Args:
        extra: the name in ``pyproject.toml``, such as ``train``.
        what: what needs them, as the subject of a sentence: "drawing pictures".
        modules: the libraries' modules.

    Raises:
        UsageError: one is missing; the message says how to install the extra.
    """
    for module in modules:
        if find_spec(module) is None:
            require(module, f"{what} needs {module}", extra)
