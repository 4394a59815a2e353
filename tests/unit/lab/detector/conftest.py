"""Runtime graphs of small networks, made once."""

from __future__ import annotations

import random

import pytest

from sectum import zoo
from sectum.lab.detector.examples import Example
from sectum.lab.detector.features import extract
from sectum.ort.cpu import Cpu
from sectum.ort.optimize import optimize
from sectum.ort.page_trace import page_trace

FAMILIES = ("mobilenet_v1", "resnet", "squeezenet", "shufflenet_v2", "googlenet")


@pytest.fixture(scope="session")
def networks():
    """Networks of five families, with branches, joins and sums."""
    return [zoo.to_graph(zoo.sample(family, random.Random(number)), 1) for number, family in enumerate(FAMILIES)]


@pytest.fixture(scope="session")
def graphs(networks):
    """What the runtime executes of them with AVX2."""
    return [optimize(network, Cpu.AVX2) for network in networks]


@pytest.fixture(scope="session")
def examples(graphs):
    """Thirty examples with working sets that nobody measured: the page model's, bent by a tenth at random."""
    rng = random.Random(0)
    made = []
    for number in range(30):
        graph = graphs[number % len(graphs)]
        page_model_bytes = page_trace(graph).pages * 4096
        working_set_bytes = round(page_model_bytes * rng.uniform(0.9, 1.1))
        rows = tuple((round(working_set_bytes * factor), factor < 1) for factor in (0.7, 0.95, 1.3))
        features = extract(graph, page_model_bytes)
        family = FAMILIES[number % len(graphs)]
        made.append(Example(f"{family}/{number}", family, f"{number:x}", features, working_set_bytes, False, rows))
    return made
