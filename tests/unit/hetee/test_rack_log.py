"""The log of a rack says of each line which role wrote it, whatever roles write."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import pytest

from sectum.hetee.rack_log import LINE_BYTES, Attribution, RoleLog


def piece(pid: int, text: str) -> str:
    """A line of a controller that passes on what a worker wrote."""
    return json.dumps({"time": 1.0, "role": "controller", "event": "worker_output", "pid": pid, "text": text})


def events(attribution: Attribution, *lines: str) -> list[dict[str, Any]]:
    """The events of lines, without their times."""
    found = [event for line in lines for event in attribution.events(line)]
    assert all(event.pop("time") for event in found)
    return found


@pytest.mark.parametrize("role", ["controller", "worker", "host"])
def test_a_worker_speaks_for_itself_only(role: str) -> None:
    """What a worker wrote is an event of this worker, also if it is one of another role, or none."""
    said = json.dumps({"role": role, "event": "refused", "pid": 1, "detail": "no"})
    assert events(Attribution("controller", 7), piece(8, said + "\nplain words\n")) == [
        {"role": "worker", "event": "refused", "pid": 8, "detail": "no"},
        {"role": "worker", "event": "output", "pid": 8, "text": "plain words"},
    ]


def test_a_host_cannot_pass_for_another_role() -> None:
    """What a host writes is of the host, also if it looks like the controller's."""
    found = events(Attribution("host", 7), piece(8, "x\n"), json.dumps({"role": "worker", "event": "refused"}))
    assert [event["role"] for event in found] == ["host", "host"]


def test_lines_of_workers_are_put_together() -> None:
    """Lines that came in pieces are whole again, those of two workers apart, and cut to a limit."""
    attribution = Attribution("controller", 7)
    found = events(attribution, piece(8, "one "), piece(9, "other\n"), piece(8, "line\n"), piece(8, "y" * 9000 + "\n"))
    assert [(event["pid"], event["text"]) for event in found] == [(9, "other"), (8, "one line"), (8, "y" * 512)]
    for _ in range(10):
        events(attribution, piece(8, "z" * LINE_BYTES))
    assert all(len(rest) <= LINE_BYTES for rest in attribution._unfinished.values())


def test_workers_without_end_do_not_pile_up() -> None:
    """Of workers whose last line has no end, the newest ones are remembered only."""
    attribution = Attribution("controller", 7)
    events(attribution, *(piece(pid, "x") for pid in range(1000)))
    assert len(attribution._unfinished) <= 64


def test_a_role_is_copied_until_it_ends() -> None:
    """Each line of a role is in the log, and what is no event is one with the text."""
    read, write = os.pipe()
    os.write(write, b'{"role": "host", "event": "ready"}\nTraceback\n')
    os.close(write)
    log = io.BytesIO()
    RoleLog("host", read, 7, log).run()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["role"], line["event"]) for line in lines] == [("host", "ready"), ("host", "output")]
