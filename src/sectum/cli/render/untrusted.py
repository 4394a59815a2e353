"""Untrusted text, such as names in a model file, made safe to print on a terminal."""

from __future__ import annotations

import unicodedata

# Cc: control characters, with which a name could hold a terminal's escape sequences. Cf: invisible characters, among
# them those that reverse the reading direction. Cs: surrogates, which cannot be encoded. Zl, Zp: line ends.
# Co, Cn: private and unassigned characters.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, *, limit: int = 120, keep: str = "") -> str:
    r"""Escape characters that are not visible, and shorten long text by its middle.

    Args:
        text: any text.
        limit: the maximum length of the result; at least 16.
        keep: unprintable characters to keep (a message may contain ``"\n"``).
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
