"""Families of transformers and of networks on bytes."""

from __future__ import annotations

import random
from functools import partial

import pytest

from sectum import zoo
from sectum.graph import read
from sectum.zoo.families import encoder
from sectum.zoo.families.transformer import Style
from sectum.zoo.precision import Precision
from sectum.zoo.program import Program

FAMILIES = ("byte_cnn", "decoder", "encoder", "vision_transformer")

# Millions: BERT, Turc et al. 2019, table 1 and the checkpoints of its release; DistilBERT, Sanh et al. 2019, and MiniLM
# by their checkpoints; ViT and DeiT by torchvision and Touvron et al. 2021, table 1; GPT-2 by its checkpoint;
# SmolLM and TinyLlama by their model cards.
PUBLISHED = {
    "bert_tiny": 4.386, "bert_mini": 11.17, "bert_small": 28.76, "bert_base": 109.48, "distilbert": 66.36,
    "minilm_l6": 22.71, "deit_tiny": 5.717, "deit_small": 22.05, "vit_base_16": 86.57, "gpt2_prefill_64": 124.44,
    "gpt2_step_256": 124.44, "smollm_135m_step_256": 134.5, "llama_1b_step_512": 1100.0,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    """A published network has the published number of parameters within 2 %."""
    assert zoo.network(name).parameters / 1e6 == pytest.approx(PUBLISHED[name], rel=0.02)


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_seeds_draw_equal_networks(family: str) -> None:
    """The same state of the source of randomness gives the same network, and another state another one."""
    one, same, other = (zoo.sample(family, random.Random(seed)) for seed in (3, 3, 4))
    assert one.structure == same.structure != other.structure


@pytest.mark.parametrize(
    "change",
    [
        {"scale": "roots"}, {"mask": "selected"}, {"joint": "split"}, {"joint": "slices"}, {"joint": "stacked"},
        {"gelu": "tanh"}, {"norm": "written out"}, {"product": "gemm"}, {"shapes": "followed"},
        {"precision": Precision.DYNAMIC}, {"precision": Precision.FOUR_BIT},
    ],
    ids=str,
)  # fmt: skip
def test_styles_have_digests_of_their_own(change: dict[str, str]) -> None:
    """Each choice of an exporter changes the topology of a network."""
    assert _encoder(Style(**change)).topology != _encoder(Style()).topology  # type: ignore[arg-type]


def _encoder(style: Style) -> Program:
    sizes = encoder.Sizes(1, 32, 2, 64, tokens=8, words=50, positions=16)
    return Program("small", "encoder", partial(encoder.write, sizes=sizes, style=style))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_is_that_of_the_model(family: str) -> None:
    """The graph of a program has the operators, shapes and types of the model with weights."""
    program = zoo.sample(family, random.Random(5))
    graph, model = zoo.to_graph(program), read(zoo.to_bytes(program)).graph
    assert [(op.type, op.inputs, op.outputs) for op in graph.operators] == [
        (op.type, op.inputs, op.outputs) for op in model.operators
    ]
    assert {name: (t.shape, t.dtype) for name, t in graph.tensors.items()} == {
        name: (t.shape, t.dtype) for name, t in model.tensors.items()
    }
