"""Runs a program on a kernel that refuses some system calls, as the sandbox of a container may.

python hetee_refusing_kernel.py 272,165 PROGRAM ARGUMENT...
"""

from __future__ import annotations

import os
import sys

from sectum.hetee.confinement import kernel, seccomp


def main() -> None:
    """Refuse the calls, and become the program."""
    refused = [int(number) for number in sys.argv[1].split(",")]
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    lines = [line for number in refused for line in seccomp._if_equal(number, [seccomp._REFUSED])]
    seccomp.install([*seccomp._BEGIN, *lines, seccomp._ALLOWED])
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
