"""The native runner: the same process without an enclave, the baseline of every comparison."""

from __future__ import annotations

from sectum.enclave.runners.launch import child_command, child_environment, program
from sectum.enclave.runners.process import ChildSession
from sectum.enclave.runners.runner import PROVENANCE_MEASURED, Job
from sectum.errors import UsageError


class NativeRunner:
    """Runs a model in an ordinary process."""

    name = "native"
    provenance = PROVENANCE_MEASURED
    counts_pages = True  # always zero

    def check(self) -> None:
        """Do nothing: an ordinary process can always be started."""

    def accept(self, job: Job) -> None:
        """Refuse a job that this runner cannot do.

        Raises:
            UsageError: the job has an EPC.
        """
        if job.epc_bytes is not None:
            raise UsageError("the native runner has no EPC: leave epc_bytes out, or use softepc")

    def start(self, job: Job) -> ChildSession:
        """Start the process and load the model.

        Raises:
            UsageError: the job has an EPC.
            EnclaveFailed: the process died, or ran over its memory cap.
            EnclaveDeadline: the model was not ready in time.
        """
        self.accept(job)
        return ChildSession(job, program(child_command(), child_environment()), runner=self.name, has_epc=False)
