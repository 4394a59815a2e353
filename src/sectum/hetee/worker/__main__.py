"""``python -m sectum.hetee.worker``. Only a controller starts it, with the link as standard input."""

from __future__ import annotations

import argparse
import gc
import os
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

from sectum.hetee.confinement.confine import ConfinementReport, close_off, isolate
from sectum.hetee.image import running
from sectum.hetee.worker.accelerators.nodes import nodes_of, with_nodes

# Libraries read these when they are loaded. The first keeps ONNX Runtime from starting a thread for telemetry.
_ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

_THREADS, _THREADS_OF_ONE = 128, 40  # most threads of a worker, and more for each thread of an accelerator
_FIRST_TO_GO = "1000"  # when the machine has no memory left, the kernel ends workers, not controller or host
LINK_FD, DATA_FD = 3, 4


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sectum.hetee.worker", description=__doc__)
    parser.add_argument("--accelerators", default="cpu:0,paced:0", help="names of accelerators to prepare for")
    parser.add_argument("--threads", type=int, default=1, help="number of threads of one CPU accelerator")
    parser.add_argument("--memory-mib", type=int, default=0, help="limit on private memory; 0 for no limit")
    parser.add_argument(
        "--measurement", type=bytes.fromhex, default=bytes(32), help="measurement of this software, for receipts"
    )
    parser.add_argument("--data", type=int, default=0, help="descriptor of the data socket")
    parser.add_argument("--rehearse", action="store_true", help="import and do all that a worker does, and end")
    parser.add_argument("--user", type=int, default=0, help="user id to take; 0 to keep the user")
    parser.add_argument("--new-process", action="store_true", help="go on in a process with a PID namespace of its own")
    parser.add_argument("--training", action="store_true", help="prepare for training, which needs PyTorch")
    parser.add_argument("--longest-batch-s", type=float, default=60.0, help="time to finish a batch after REVOKE")
    parser.add_argument("--hardware", default="software", help="format of the controller's evidence, for receipts")
    return parser.parse_args()


def _take_sockets(data: int) -> None:
    """Give the two sockets their numbers; the link comes as standard input."""
    os.dup2(data, DATA_FD, inheritable=False)
    os.dup2(0, LINK_FD, inheritable=False)
    if data > DATA_FD:
        os.close(data)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def main() -> None:
    """Confine this process, then serve its controller."""
    options = _parse()
    os.environ.update(_ENVIRONMENT)
    gc.disable()  # nothing becomes garbage while libraries are loaded, and looking for it takes an eighth of the time
    report = ConfinementReport()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")
    names = [name for name in options.accelerators.split(",") if name]
    devices = with_nodes(names)
    if not options.rehearse:
        _take_sockets(options.data)
        nodes = [node for name in devices for node in nodes_of(name)]
        isolate(report, user=options.user, new_process=options.new_process, nodes=dict.fromkeys(nodes))

    from sectum.hetee.errors import HeteeError
    from sectum.hetee.worker.process import WorkerMain, WorkerSettings, end, end_on_fault, widen
    from sectum.hetee.worker.warm_up import warm_up

    if options.rehearse:
        warm_up(names, options.threads, devices, training=options.training)
        return
    try:
        link, data = socket.socket(fileno=LINK_FD), socket.socket(fileno=DATA_FD)
        widen(data)
    except OSError as error:
        sys.exit(f"a worker is started by a controller, with sockets as standard input and as --data: {error}")
    sys.excepthook = end_on_fault
    threading.excepthook = lambda fault: end_on_fault(fault.exc_type, fault.exc_value, fault.exc_traceback)
    try:
        warm_up(names, options.threads, devices, training=options.training)
        gc.freeze()  # what is loaded stays: no batch waits until all of it was looked at
        gc.enable()
        memory_bytes = options.memory_mib << 20
        setting = WorkerSettings(
            options.threads, options.measurement, options.hardware, memory_bytes, devices, options.longest_batch_s
        )
        process = WorkerMain(link, data, setting)
        if found := running.foreign():
            report.refused("measured-code", ", ".join(found[:2]))
        else:
            report.confinement.append("measured-code")
        threads = _THREADS + _THREADS_OF_ONE * options.threads
        close_off(report, DATA_FD + 1, devices=bool(devices), memory_bytes=memory_bytes, threads=threads)
        process.run(report)
    except HeteeError as error:
        end(error)
    # Threads may still be computing; do not wait for them.
    os._exit(0)


if __name__ == "__main__":
    main()
