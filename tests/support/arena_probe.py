"""Run a model twice with an arena that starts empty, and tell the plan of the graph that this very session ran.

Started as a process of its own: the runtime logs what it asks its arena for on the error stream, and nowhere else.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import onnxruntime

from observed import observed_graph, observing_options, zero_inputs
from sectum.ort.memory_plan import memory_plan

SECOND_RUN = "-- second inference --"


def main(path: str) -> None:
    onnxruntime.set_default_logger_severity(1)
    info = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    exact = {"max_mem": 0, "arena_extend_strategy": 1, "initial_chunk_size_bytes": 256, "max_dead_bytes_per_chunk": -1}
    onnxruntime.create_and_register_allocator(info, onnxruntime.OrtArenaCfg(exact))
    with tempfile.TemporaryDirectory() as folder:
        options = observing_options(Path(folder))
        options.add_session_config_entry("session.use_env_allocators", "1")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        give_back = onnxruntime.RunOptions()
        give_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        feeds = zero_inputs(session)
        session.run(None, feeds, give_back)
        print(SECOND_RUN, file=sys.stderr, flush=True)
        session.run(None, feeds, give_back)
        print(json.dumps({"planned_block_bytes": memory_plan(observed_graph(session, Path(folder))).block_bytes}))


if __name__ == "__main__":
    main(sys.argv[1])
