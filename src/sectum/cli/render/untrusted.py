"""Text that comes from a model file, made safe to print on a terminal."""

from __future__ import annotations

import unicodedata

# Cc: control characters, so that a name cannot carry a terminal's escape sequences. Cf: invisible ones, among
# them those that turn the reading direction around. Cs: halves of characters, which cannot be encoded.
# Zl, Zp: ends of lines. Co, Cn: without a meaning of their own.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, *, limit: int = 120, keep: str = "") -> str:
    r"""Write characters that are not plainly visible as escapes, and cut the middle out of what is too long.

    Args:
        text: anything.
        limit: the most characters of the result; at least 16.
        keep: unprintable characters to let through (a message may hold ``"\n"``).
    """
    if len(text) > limit:
        text = f"{text[: limit - limit // 3 - 3]}...{text[-(limit // 3) :]}"
    if text.isascii() and text.isprintable():
        return text
    shown = "".join(
        ch if ch in keep or unicodedata.category(ch) not in _UNPRINTABLE else ch.encode("unicode_escape").decode()
        for ch in text
    )
    return shown if len(shown) <= limit or keep else f"{shown[: limit - 3]}..."
