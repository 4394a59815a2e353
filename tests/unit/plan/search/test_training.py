"""Objectives that run networks: codes of untrained ones, and accuracy after training."""

from __future__ import annotations

import numpy as np
import pytest

from sectum import zoo
from sectum.errors import UsageError
from sectum.plan.search import Setting, front_of, named_objective
from sectum.units import MIB
from sectum.zoo import space_file

pytestmark = pytest.mark.slow
torch = None


@pytest.fixture(autouse=True)
def _torch():
    global torch
    torch = pytest.importorskip("torch", reason="PyTorch is an extra")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny(**chosen) -> zoo.Architecture:
    space = space_file.load("tiny")
    return space.build({**space.smallest, **chosen})


def test_naswot_is_the_determinant_of_agreeing_codes():
    """With a single nonlinearity, the score is that of the kernel computed by hand."""
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 64), torch.nn.ReLU())
    example = (torch.zeros(1, 3, 8, 8),)
    noise = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    code = module[:2](noise) > 0
    kernel = (code[:, None] == code[None]).sum(dim=2).double()
    score = named_objective("naswot")((module, example))
    assert score == pytest.approx(float(torch.logdet(kernel)))


def test_naswot_is_repeatable_and_prefers_the_wider_network():
    """The same network has the same score; four times the channels tell inputs apart better."""
    naswot = named_objective("naswot")
    assert naswot(tiny()) == naswot(tiny())
    assert naswot(tiny(width=2.0)) > naswot(tiny(width=0.5))


def test_a_module_without_nonlinearities_has_no_codes():
    """The reason says which nonlinearities are read."""
    with pytest.raises(UsageError, match="ReLU6"):
        named_objective("naswot")((torch.nn.Flatten(), (torch.zeros(1, 3, 8, 8),)))


def test_training_on_digits_learns_them_and_leaves_the_network_as_it_was():
    """A small network tells digits apart that it has not seen, and a module keeps its weights."""
    pytest.importorskip("sklearn", reason="digits are of scikit-learn: install sectum[search]")
    digits = named_objective("digits")
    assert digits(tiny()) > 0.9
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
    before = module[1].weight.clone()
    assert digits((module, (torch.zeros(1, 3, 8, 8),))) > 0.7
    assert torch.equal(module[1].weight, before)
    with pytest.raises(UsageError, match="at least 10 classes"):
        digits((torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4)), (torch.zeros(1, 3, 8, 8),)))


def test_training_on_a_folder_of_images_learns_them(tmp_path):
    """A small network tells images apart that it has not seen, the same each time; too few scores are refused."""
    image = pytest.importorskip("PIL.Image", reason="images are read by Pillow: install sectum[search]")
    rng = np.random.default_rng(1)
    for number, name in enumerate(("dark", "light")):
        (tmp_path / name).mkdir()
        for index in range(100):
            noise = rng.integers(0, 80, (16, 16, 3)) + 100 * number
            image.fromarray(noise.astype(np.uint8)).save(tmp_path / name / f"{index}.png")
    score = named_objective(f"images:{tmp_path}")
    assert score(tiny()) == score(tiny()) > 0.9
    with pytest.raises(UsageError, match="at least 2 classes"):
        score((torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 1)), (torch.zeros(1, 3, 8, 8),)))
    with pytest.raises(UsageError, match="is no folder"):
        named_objective("images:nowhere")


@pytest.mark.filterwarnings("ignore")  # PyTorch's exporter warns of what it uses itself
def test_modules_are_searched_as_architectures_are(predictor, softepc):
    """A PyTorch module with its example inputs is exported, predicted and scored."""
    modules = []
    for width in (8, 64):
        module = torch.nn.Sequential(
            torch.nn.Conv2d(3, width, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(width * 900, 10)
        )
        modules.append((module, (torch.zeros(1, 3, 32, 32),)))
    setting = Setting(predictor, softepc.with_epc(64 * MIB), 1000.0, lambda one: float(one[0][0].out_channels))
    found = front_of(modules, setting)
    assert [one.evaluated.score for one in found] == [8.0, 64.0]
    assert found[0].evaluated.latency_ms < found[1].evaluated.latency_ms
