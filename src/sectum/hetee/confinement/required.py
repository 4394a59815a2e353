"""The steps of confinement that default policies require of each role."""

from __future__ import annotations

# What a default policy requires of each role. Names are those of `sectum.hetee.confinement`.
_BOTH = ("measured-code", "no-core-dump", "no-new-privileges", "not-dumpable", "seccomp")
CONFINEMENT = {
    "controller": (*_BOTH, "apart-from-host", "private-root"),
    "worker": (
        *_BOTH, "dies-with-parent", "empty-root", "ipc-namespace", "landlock", "mount-namespace", "network-namespace",
        "no-capabilities", "no-file-growth", "no-new-descriptors", "own-devices", "pid-namespace", "thread-limit",
        "user-namespace",
    ),
}  # fmt: skip
