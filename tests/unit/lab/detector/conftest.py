"""Small networks of several families, made once."""

from __future__ import annotations

import random

import pytest

from sectum import zoo
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
    """Their optimized graphs with AVX2."""
    return [optimize(network, Cpu.AVX2) for network in networks]


@pytest.fixture(scope="session")
def examples(graphs):
    """Thirty examples whose working sets are the page model's, changed by up to a tenth at random."""
    rng = random.Random(0)
    sizes = [page_trace(graph).pages * 4096 for graph in graphs]
    return [(extract(graph), size * rng.uniform(0.9, 1.1)) for graph, size in list(zip(graphs, sizes, strict=True)) * 6]
