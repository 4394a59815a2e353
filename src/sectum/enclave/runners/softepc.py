"""The software enclave: an ordinary process whose large allocations live in an EPC of limited size.

The pager (native/softepc) is preloaded. It seals pages with AES-128-GCM and evicts them when the budget is used up,
and loads them when they are touched. The results of the process are bit for bit the same as without it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sectum.compiling import run_tool
from sectum.enclave.runners.launch import child_command, child_environment, ended_error, program
from sectum.enclave.runners.pager_build import pager_library
from sectum.enclave.runners.process import ChildSession
from sectum.enclave.runners.runner import PROVENANCE_MEASURED, Job

_PROBE_DEADLINE_S = 30.0


class SoftEpcRunner:
    """Runs a model in the software enclave."""

    name = "softepc"
    provenance = PROVENANCE_MEASURED
    counts_pages = True

    def __init__(self) -> None:
        self._library: Path | None = None

    def check(self) -> None:
        """Compile the pager if it is not compiled yet, and start an empty process under it.

        Raises:
            EnclaveUnavailable: no compiler, no userfaultfd, no libcrypto: the message says how to get it.
            EnclaveFailed: the compiler refused the sources, or the process died.
        """
        self.library()

    def library(self) -> Path:
        """Return the compiled pager; the first call tests it on an empty process.

        Raises:
            EnclaveUnavailable: see `check`.
            EnclaveFailed: see `check`.
        """
        if self._library is None:
            library = pager_library()
            environment = child_environment()
            probe = run_tool(
                [sys.executable, "-I", "-S", "-c", "pass"],
                _PROBE_DEADLINE_S,
                f"an empty process under the pager did not end within {_PROBE_DEADLINE_S:g} s: "
                "try again when the machine is less busy",
                env=environment | {"LD_PRELOAD": str(library), "SOFTEPC_BUDGET_BYTES": str(1 << 20)},
            )
            if probe.returncode != 0:
                raise ended_error(probe.returncode, probe.stderr.strip(), self.name)
            self._library = library
        return self._library

    def accept(self, job: Job) -> None:
        """Do nothing: this runner accepts every job."""

    def start(self, job: Job) -> ChildSession:
        """Start the process under the pager and load the model there.

        Raises:
            EnclaveUnavailable: see `check`.
            EnclaveTampered: a sealed page was changed outside.
            EnclaveFailed: the process died, or ran over its memory cap.
            EnclaveDeadline: the model was not ready in time.
        """
        environment = child_environment() | {
            "LD_PRELOAD": str(self.library()),
            "SOFTEPC_BUDGET_BYTES": str(job.epc_bytes or 0),
            "SOFTEPC_POLICY": job.policy,
        }
        links = (None, None) if job.link is None else (job.link["receive"], job.link["send"])
        files = [file for file in links if file is not None]
        return ChildSession(job, program(child_command(), environment, files), runner=self.name, has_epc=True)
