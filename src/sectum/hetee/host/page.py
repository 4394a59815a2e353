"""The page for operators: one file of HTML that asks ``/state`` every second and loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from importlib import resources


@dataclass(frozen=True)
class Page:
    """A page and the headers that keep a browser from running or loading anything that is not in it."""

    html: bytes
    headers: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        script, style = (self._hash(name) for name in ("script", "style"))
        policy = f"default-src 'none'; connect-src 'self'; script-src {script}; style-src {style}; "
        rest = "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
        sniffing = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
        object.__setattr__(self, "headers", {"Content-Security-Policy": policy + rest} | sniffing)

    def _hash(self, name: str) -> str:
        (content,) = re.findall(rf"<{name}>(.*?)</{name}>".encode(), self.html, re.DOTALL)
        return f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"


def read_page() -> Page:
    """Read the page. Call it before the host is confined: it can open no file later."""
    return Page(resources.files(__package__).joinpath("page.html").read_bytes())
