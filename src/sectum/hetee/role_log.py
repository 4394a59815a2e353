"""The log of a role: one line of JSON for each event, on standard error, a pipe to whoever started the role."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress


def log_event(role: str, event: str, **fields: object) -> None:
    """Write a line of JSON to standard error. The fields hold no secrets and no tenant's data."""
    line = {"time": round(time.time(), 3), "role": role, "event": event, **fields}
    with suppress(OSError, ValueError):  # nobody reads any more; that is no reason to end
        sys.stderr.write(json.dumps(line) + "\n")
        sys.stderr.flush()
