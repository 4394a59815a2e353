"""Ties the controller's life to its parent's."""

from __future__ import annotations

import os
import signal

from sectum.hetee.confinement import kernel


def end_with_parent(parent: int) -> None:
    """Have the kernel send SIGTERM to this process when its parent, which has this process id, ends."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent ended before prctl
        signal.raise_signal(signal.SIGTERM)
