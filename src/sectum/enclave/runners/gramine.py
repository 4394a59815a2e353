"""The Gramine runner: the same child process in a library OS in an SGX enclave.

It was written without access to a machine with SGX, so every result says ``unverified``. Tests cover the text of the
manifest and how the processes are started.

Manifest keys: https://gramine.readthedocs.io/en/stable/manifest-syntax.html
"""

from __future__ import annotations

import json
import os
import shutil
import site
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sectum.compiling import run_tool
from sectum.enclave.runners.launch import child_command, child_environment, program
from sectum.enclave.runners.process import ChildSession
from sectum.enclave.runners.runner import PROVENANCE_UNVERIFIED, Job
from sectum.errors import EnclaveFailed, EnclaveUnavailable, UsageError
from sectum.units import MIB

DEVICE = Path("/dev/sgx_enclave")
_LAUNCHER, _MANIFEST, _SIGN = "gramine-sgx", "gramine-manifest", "gramine-sgx-sign"
_RUNTIME_THREADS = 4  # Gramine's own helper threads, and Python's
_MIN_ENCLAVE_BYTES = 1024 * MIB
_BUILD_DEADLINE_S = 300.0
_APPLICATION = "sectum-child"
_PASSED_ON = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_THREAD_TIMEOUT", "PYTHONPATH")


def enclave_size_bytes(model_bytes: int) -> int:
    """Give the enclave size for a model: a power of two, as SGX requires.

    It holds the runtime, the model's file, its weights, a packed copy of them, and activations.
    """
    needed = _MIN_ENCLAVE_BYTES + 4 * model_bytes
    return 1 << (needed - 1).bit_length()


def trusted_paths() -> list[str]:
    """List the folders and files of the interpreter, its modules and the system's libraries, without nested ones."""
    paths = sysconfig.get_paths()
    named = [
        paths["stdlib"],
        paths["platstdlib"],
        str(Path(__file__).resolve().parents[3]),
        *site.getsitepackages(),
        sysconfig.get_config_var("LIBDIR") or "",
        str(Path(sys.prefix) / "pyvenv.cfg"),
        "/lib64/ld-linux-x86-64.so.2",
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
    ]
    found = sorted({str(Path(path).resolve()) for path in named if path and Path(path).exists()})
    return [path for path in found if not any(path.startswith(f"{other}/") for other in found)]


def manifest_template(
    *,
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    trusted: Sequence[str],
    enclave_bytes: int,
    threads: int,
) -> str:
    """Give the text of the manifest's template; ``gramine-manifest`` fills in Gramine's own paths.

    Args:
        command: command line of the process in the enclave.
        environment: its whole environment.
        folder: folder of the model, and the only one that the process may write to.
        trusted: folders and files that it may read; the enclave's measurement includes their hashes.
        enclave_bytes: address space of the enclave.
        threads: threads of the runtime.
    """

    def text(value: str) -> str:
        """Quote for TOML, whose escapes include JSON's; an opening brace could start a template."""
        return json.dumps(value, ensure_ascii=False).replace("{", "\\u007b")

    mounts = [f"  {{ path = {text(path)}, uri = {text('file:' + path)} }}," for path in (*trusted, str(folder))]
    uris = [f"file:{path}/" if Path(path).is_dir() else f"file:{path}" for path in trusted]
    executable = Path(command[0]).resolve()
    return "\n".join(
        [
            'loader.entrypoint.uri = "file:{{ gramine.libos }}"',
            f"libos.entrypoint = {text(str(executable))}",
            'loader.log_level = "error"',
            f"loader.argv = [{', '.join(text(argument) for argument in command)}]",
            'loader.env.LD_LIBRARY_PATH = "/gramine/lib:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu"',
            *(f"loader.env.{key} = {text(value)}" for key, value in sorted(environment.items())),
            f"sgx.enclave_size = {text(f'{enclave_bytes // MIB}M')}",
            f"sgx.max_threads = {threads + _RUNTIME_THREADS}",
            "sgx.debug = false",
            "fs.mounts = [",
            '  { path = "/gramine/lib", uri = "file:{{ gramine.runtimedir() }}" },',
            *mounts,
            "]",
            "sgx.trusted_files = [",
            '  "file:{{ gramine.libos }}",',
            '  "file:{{ gramine.runtimedir() }}/",',
            f"  {text('file:' + str(executable))},",
            *(f"  {text(uri)}," for uri in uris),
            f"  {text('file:' + str(folder / 'model.onnx'))},",
            "]",
            f"sgx.allowed_files = [{text('file:' + str(folder / 'out') + '/')}]",
            "",
        ]
    )


class GramineRunner:
    """Runs a model in Gramine."""

    name = "gramine"
    provenance = PROVENANCE_UNVERIFIED
    counts_pages = False  # the kernel's SGX driver pages, and does not report counts

    def _tools(self) -> dict[str, str]:
        found = {name: shutil.which(name) for name in (_LAUNCHER, _MANIFEST, _SIGN)}
        if missing := [name for name, path in found.items() if path is None]:
            raise EnclaveUnavailable(
                f"Gramine is not installed: {', '.join(missing)} not found on PATH. See "
                "https://gramine.readthedocs.io/en/stable/installation.html, or use the softepc runner"
            )
        return {name: path for name, path in found.items() if path is not None}

    def check(self) -> None:
        """Look for Gramine's programs and SGX's device.

        Raises:
            EnclaveUnavailable: one of them is missing.
        """
        self._tools()
        if not DEVICE.exists():
            raise EnclaveUnavailable(
                f"this machine has no {DEVICE}: enable SGX in its firmware and use Linux 5.11 or "
                "later, or use the softepc runner"
            )

    def start(self, job: Job) -> ChildSession:
        """Write, build and sign the manifest, and start the child in Gramine.

        Raises:
            UsageError: the job limits the EPC.
            EnclaveUnavailable: see `check`.
            EnclaveFailed: the manifest could not be built, or the process died.
            EnclaveDeadline: the model was not ready in time.
        """
        if job.epc_bytes is not None:
            raise UsageError("gramine uses the whole EPC of the machine: leave epc_bytes out, or use softepc")
        self.check()
        tools = self._tools()
        holder = tempfile.TemporaryDirectory(prefix="sectum-gramine-", ignore_cleanup_errors=True)
        try:
            folder = Path(holder.name).resolve()
            model = folder / "model.onnx"
            if isinstance(job.model, Path):
                shutil.copyfile(job.model, model)
            else:
                model.write_bytes(job.model)
            job = replace(job, model=model)
            self._build(job, folder, tools)
        except BaseException:
            holder.cleanup()
            raise
        return ChildSession(
            job,
            program([tools[_LAUNCHER], _APPLICATION], child_environment()),
            runner=self.name,
            has_epc=False,
            folder=holder,
        )

    def _build(self, job: Job, folder: Path, tools: Mapping[str, str]) -> None:
        environment = child_environment()
        text = manifest_template(
            command=child_command(),
            environment={key: environment[key] for key in _PASSED_ON if key in environment},
            folder=folder,
            trusted=trusted_paths(),
            enclave_bytes=enclave_size_bytes((folder / "model.onnx").stat().st_size),
            threads=job.threads,
        )
        template = folder / f"{_APPLICATION}.manifest.template"
        template.write_text(text)
        manifest = folder / f"{_APPLICATION}.manifest"
        self._run_tool([tools[_MANIFEST], str(template), str(manifest)], folder)
        self._run_tool([tools[_SIGN], "--manifest", str(manifest), "--output", f"{manifest}.sgx"], folder)

    @staticmethod
    def _run_tool(command: Sequence[str], folder: Path) -> None:
        too_long = f"{command[0]} ran longer than {_BUILD_DEADLINE_S:g} s: run it by hand to see why"
        ended = run_tool(command, _BUILD_DEADLINE_S, too_long, cwd=folder, env=dict(os.environ))
        if ended.returncode != 0:
            raise EnclaveFailed(
                f"{command[0]} failed with exit code {ended.returncode}: "
                f"{ended.stderr.strip()[-1500:] or 'no message'}. "
                "If it lacks a signing key, make one with gramine-sgx-gen-private-key"
            )
