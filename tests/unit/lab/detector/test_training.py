"""Learning: needs PyTorch and PyTorch Geometric."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the detector is trained by PyTorch: install sectum[learn]")
pytest.importorskip("torch_geometric", reason="the detector is trained by PyTorch Geometric: install sectum[learn]")
pytest.importorskip("onnxscript", reason="PyTorch writes ONNX by onnxscript: install sectum[learn]")

from sectum.errors import UsageError  # noqa: E402 - after what may be missing
from sectum.lab.detector import Detector  # noqa: E402
from sectum.lab.detector.detector import FORMS, GNN, GNN_PAGE_MODEL, PAGE_MODEL  # noqa: E402
from sectum.lab.detector.features import together  # noqa: E402
from sectum.lab.detector.fitting import Effort, fit  # noqa: E402
from sectum.lab.detector.network import WorkingSetNetwork, torch_tensors  # noqa: E402
from sectum.lab.detector.training import best, export, hold_out, judge, leave_families_out, random_split  # noqa: E402

pytestmark = pytest.mark.slow

EFFORT = Effort(simulated=32, measured=64, batch=8)


@pytest.fixture(scope="module")
def fitted(examples):
    return {form: fit(examples, examples[:25], 1, form=form, effort=EFFORT) for form in (GNN, GNN_PAGE_MODEL)}


@pytest.fixture(scope="module")
def exported(fitted, examples, tmp_path_factory):
    """The folder of both stored networks, and their entries of the manifest."""
    folder = tmp_path_factory.mktemp("exported")
    return folder, {form: export(its.network, form, examples, folder) for form, its in fitted.items()}


@pytest.mark.parametrize("form", [GNN, GNN_PAGE_MODEL])
def test_a_seed_decides_all(examples, fitted, form):
    """The same seed gives the same weights, another seed others."""
    again = fit(examples, examples[:25], 1, form=form, effort=EFFORT)
    other = fit(examples, examples[:25], 2, form=form, effort=EFFORT)
    same = [
        torch.equal(a, b) for a, b in zip(fitted[form].network.parameters(), again.network.parameters(), strict=True)
    ]
    assert all(same)
    assert not np.array_equal(fitted[form].working_sets(examples)[0], other.working_sets(examples)[0])


def test_learning_from_simulated_networks_first_changes_the_graph_only_form(examples):
    """The form with the page model learns nothing from labels that are its own first estimate."""
    simulated = [replace(example, simulated=True) for example in examples]
    for form, changes in ((GNN, True), (GNN_PAGE_MODEL, False)):
        gentle = replace(EFFORT, rate=EFFORT.rate / 3)
        without = fit(examples, examples[:25], 1, form=form, effort=gentle)
        with_them = fit(examples, examples[:25], 1, form=form, effort=EFFORT, simulated=simulated)
        equal = np.array_equal(without.working_sets(examples)[0], with_them.working_sets(examples)[0])
        assert equal != changes


@pytest.mark.parametrize("form", [GNN, GNN_PAGE_MODEL])
def test_the_stored_network_says_what_pytorch_says(examples, fitted, exported, form):
    """ONNX Runtime and PyTorch agree to 1e-4, for one graph and for many, and so do working sets."""
    folder, entries = exported
    entry = entries[form]
    detector = replace(Detector.load(form=form), folder=folder, file=(entry["file"], entry["sha256"]))
    for some in (examples[:1], examples):
        features = [example.features for example in some]
        with torch.no_grad():
            log_ratio, log_scale = fitted[form].network(**torch_tensors(together(features)))
        joined = together(features)
        first = joined.page_model_bytes if form == GNN_PAGE_MODEL else joined.first_estimate_bytes
        found = detector.judge(features)
        assert np.allclose(found.log_bytes - np.log(first), log_ratio.numpy(), atol=1e-4)
        assert np.allclose(np.log(found.scale), log_scale.numpy(), atol=1e-4)


def test_a_stored_network_holds_no_paths(exported):
    """Nothing of the machine that trained is in the file."""
    folder, entries = exported
    for entry in entries.values():
        content = (folder / entry["file"]).read_bytes()
        assert b"site-packages" not in content
        assert b".py" not in content


def test_a_network_that_has_learned_nothing_says_the_first_estimate(examples):
    """Before training the ratio is near 1, so that sizes are extrapolated along the first estimate."""
    for with_page_model in (True, False):
        network = WorkingSetNetwork(with_page_model=with_page_model)
        log_ratio, _ = network(**torch_tensors(together([example.features for example in examples])))
        assert log_ratio.abs().max() < 0.05


def test_learning_takes_out_a_bias(examples):
    """Working sets that are all a fifth larger than the page model's are found after learning."""
    bent = [replace(one, working_set_bytes=round(1.2 * one.page_model_bytes)) for one in examples]
    found = fit(bent, bent[:25], 0, form=GNN_PAGE_MODEL, effort=Effort(measured=640, batch=16, rate=1e-2))
    assert np.allclose(found.working_sets(bent)[0], [one.working_set_bytes for one in bent], rtol=0.05)


def test_simulated_networks_are_never_judged_by(examples):
    """A working set that nobody measured among those to judge by is an error."""
    fitted = fit([], examples[:25], 0, form=PAGE_MODEL)
    assert judge(fitted, examples).figures()["networks"] == len(examples)
    with pytest.raises(UsageError, match="simulated"):
        judge(fitted, [*examples, replace(examples[0], simulated=True)])


def test_no_topology_is_on_two_sides(examples):
    """Relatives stay together, and each network is the test once."""
    relatives = [replace(example, topology=f"{number // 3}") for number, example in enumerate(examples)]
    tested = []
    for training, validation, test in random_split(relatives, 0):
        parts = [{example.topology for example in part} for part in (training, validation, test)]
        assert len(set().union(*parts)) == sum(map(len, parts))
        tested += [example.key for example in test]
    assert sorted(tested) == sorted(example.key for example in relatives)


def test_a_family_left_out_is_not_learned_from(examples):
    """Neither training nor validation has the families of the test, and each is the test once."""
    tested = []
    for training, validation, test in leave_families_out(examples, 0, 5):
        families = {example.family for example in test}
        assert not families & {example.family for example in (*training, *validation)}
        tested += families
    assert sorted(tested) == sorted({example.family for example in examples})


def test_holding_out_loses_nothing(examples):
    """Training and validation together are all examples."""
    training, validation = hold_out(examples, 0)
    assert sorted(one.key for one in training + validation) == sorted(one.key for one in examples)


@pytest.mark.parametrize(
    ("seen", "unseen", "expected"),
    [(0.5, 0.8, GNN_PAGE_MODEL), (0.95, 0.5, PAGE_MODEL), (0.5, 1.2, PAGE_MODEL), (1.0, 1.0, PAGE_MODEL)],
)
def test_the_simple_form_ships_unless_another_is_clearly_better(seen, unseen, expected):
    """A network ships if it is better by more than a tenth at the boundary of every split."""
    splits = {"random, boundary": seen, "families, boundary": unseen, "random": 2.0}
    figures = {form: {split: {"brier": 0.1} for split in splits} for form in FORMS}
    figures[GNN_PAGE_MODEL] = {split: {"brier": 0.1 * ratio} for split, ratio in splits.items()}
    assert best(figures) == expected


def test_what_is_wrong_with_an_argument_is_said(examples):
    """No such form, nothing to learn from, too little to calibrate on."""
    with pytest.raises(UsageError, match="no detector of the form"):
        fit(examples, examples, 0, form="oracle")
    with pytest.raises(UsageError, match="no measured network"):
        fit([], examples, 0, form=GNN)
    with pytest.raises(UsageError, match="calibrating"):
        fit(examples, examples[:5], 0, form=PAGE_MODEL)


def test_calibrations_are_json(examples):
    """What the manifest stores of a fit survives JSON."""
    stored = fit([], examples, 0, form=PAGE_MODEL).distribution.to_json()
    assert json.loads(json.dumps(stored)) == stored
