"""Measure how long it takes to count the page faults of one VGG-19 inference, by policy and EPC size.

The trace is VGG-19's with its original head, 224x224, batch 1: 140,000 pages of weights, and activations that
alternate between two buffers. Writes JSON: the times of every repetition, with their context.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator

from sectum import __version__
from sectum.paging.replacement import ReplacementPolicy, Touch, steady_state, working_set_pages
from sectum.units import pages

EPC_PAGES = (1024, 4096, 8192, 16384, 23808, 65536, 131072)
WIDTHS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))
HEAD = (4096, 4096, 1000)
FLOAT32_BYTES = 4


def layers() -> Iterator[tuple[int, int]]:
    """Float32 elements of weights and of output, layer by layer; convolutions, poolings, then the head."""
    channels, side = 3, 224
    for width, count in WIDTHS:
        for _ in range(count):
            yield (channels * 9 + 1) * width, width * side * side
            channels = width
        side //= 2
        yield 0, channels * side * side
    inputs = channels * side * side
    for width in HEAD:
        yield (inputs + 1) * width, width
        inputs = width


def vgg19() -> list[Touch]:
    """Give the page touches of an inference."""
    sizes = [(pages(w * FLOAT32_BYTES), pages(o * FLOAT32_BYTES)) for w, o in layers()]
    buffers = [0, max(output for _, output in sizes)]
    next_page = 2 * buffers[1]
    touches, read = [], Touch(0, 0, pages(3 * 224 * 224 * FLOAT32_BYTES))
    for index, (weight_pages, output_pages) in enumerate(sizes):
        touches.append(Touch(index, read.first_page, read.n_pages))
        touches.append(Touch(index, next_page, weight_pages))
        next_page += weight_pages
        read = Touch(index, buffers[(index + 1) % 2], output_pages)
        touches.append(read)
    return touches


def main() -> None:
    """Time each policy at each size of EPC."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--repetitions", type=int, default=7)
    repetitions = parser.parse_args().repetitions
    touches = vgg19()
    working_set = working_set_pages(touches)
    results = []
    for policy in ReplacementPolicy:
        for epc_pages in (*EPC_PAGES, working_set - 1, working_set):
            samples_ms = []
            for _ in range(repetitions):
                start_ns = time.perf_counter_ns()
                counts = steady_state(touches, epc_pages, policy)
                samples_ms.append((time.perf_counter_ns() - start_ns) / 1e6)
            median_ms = sorted(samples_ms)[repetitions // 2]
            results.append(
                {
                    "policy": policy,
                    "epc_pages": epc_pages,
                    "loads": counts.loads,
                    "rounds": counts.rounds,
                    "settled": counts.settled,
                    "median_ms": median_ms,
                    "samples_ms": samples_ms,
                }
            )
            print(f"{policy:14} {epc_pages:8} pages {median_ms:8.2f} ms", file=sys.stderr)
    context = {
        "sectum": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "working_set_pages": working_set,
        "kind": "measured",
        "unit": "ms",
    }
    print(json.dumps({"context": context, "results": results}, indent=1))


if __name__ == "__main__":
    main()
