"""What a controller gets from the program that prepares it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sectum.hetee.errors import ServiceRefused
from sectum.hetee.installation.enter import bind


def test_a_socket_that_others_can_reach_is_refused(tmp_path: Path) -> None:
    """Others cannot enter its folder, a second controller is refused, and a dead one's socket is replaced."""
    tmp_path.chmod(0o755)
    with pytest.raises(ServiceRefused):
        bind(tmp_path / "socket")
    folder = tmp_path / "run"
    first = bind(folder / "socket")
    first.listen()
    assert (folder / "socket").stat().st_mode & 0o777 == 0o660
    with pytest.raises(ServiceRefused) as caught:
        bind(folder / "socket")
    assert "another controller" in str(caught.value)
    first.close()
    bind(folder / "socket").close()
