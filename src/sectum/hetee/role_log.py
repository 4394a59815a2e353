"""The log of a role: one line of JSON for each event, on standard error."""

from __future__ import annotations

import json
import sys
import time


def log_event(role: str, event: str, **fields: object) -> None:
    """Write a line of JSON to standard error. The fields hold no secrets and no tenant's data."""
    line = {"time": round(time.time(), 3), "role": role, "event": event, **fields}
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()
