"""Reading PyTorch modules, where PyTorch is installed, and saying so where it is not."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from sectum.errors import ModelMalformed, UsageError
from sectum.graph import from_torch
from sectum.ort import coverage

pytestmark = pytest.mark.slow

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is an extra: pip install 'sectum[torch]'"
)


def test_missing_torch_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyTorch the error names the extra to install."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match="scripts/setup torch"):
        from_torch(None, ())  # type: ignore[arg-type]


@needs_torch
@pytest.mark.filterwarnings("ignore")
def test_module_becomes_a_graph() -> None:
    """A module's operators, shapes and weights arrive, and the module keeps its mode."""
    import torch

    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.SiLU(), torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(), torch.nn.Linear(8, 5),
    ).train()  # fmt: skip
    graph = from_torch(module, (torch.zeros(2, 3, 16, 16),)).graph
    assert module.training
    assert {"Conv", "Gemm"} <= {op.type for op in graph.operators}
    assert graph.tensors[graph.inputs[0]].shape == (2, 3, 16, 16)
    assert graph.tensors[graph.outputs[0]].shape == (2, 5)
    assert graph.weight_bytes >= 4 * (8 * 27 + 8 + 40 + 5)
    assert not coverage(graph).unsupported


@needs_torch
@pytest.mark.filterwarnings("ignore")
def test_module_that_cannot_be_exported() -> None:
    """Control flow that the data decides ends in an error that says what to change."""
    import torch

    class Undecided(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelMalformed, match="data-dependent control flow"):
        from_torch(Undecided(), (torch.zeros(2),))
