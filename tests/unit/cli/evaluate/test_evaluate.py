"""``sectum evaluate`` tells what was judged, by which figures, and on which dataset."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

from dataset_records import record
from measured_networks import DATASET
from sectum.cli.evaluate.page import BEGIN, END, kept_part
from sectum.errors import UsageError
from sectum.lab.dataset.dataset import DatasetWriter
from sectum.lab.evaluation import stored
from sectum.lab.evaluation.registry import learners

pytest.importorskip("pyarrow", reason="shards are Parquet: install sectum[train]")
# Importing it takes seconds, which a run without these tests should not spend.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lightgbm") is None, reason="learners are trained by LightGBM: install sectum[train]"
)

LEARNERS = ("three-constants", "flops-bytes")
FIGURES = ("within_5", "within_10", "mape", "detector_f1", "n")


@pytest.fixture(scope="module")
def shard(tmp_path_factory) -> Path:
    """A dataset of the first stored shard alone."""
    folder = tmp_path_factory.mktemp("shard")
    first = sorted(DATASET.glob("*.parquet"))[0]
    shutil.copy(first, folder / first.name)
    return folder


@pytest.fixture(scope="module")
def evaluated(shard, tmp_path_factory) -> Path:
    """The file of an evaluation of two learners that need no training."""
    from click.testing import CliRunner

    from sectum.cli.main import cli

    file = tmp_path_factory.mktemp("evaluation") / "evaluation.json"
    only = [word for name in LEARNERS for word in ("--only", name)]
    line = ["evaluate", "--retrain", "--data", str(shard), *only, "--workers", "1", "--out", str(file), "--json"]
    result = CliRunner().invoke(cli, line)
    assert result.exit_code == 0, result.output
    assert [path.name for path in file.parent.iterdir()] == [file.name]  # what was kept of folds is removed
    file.with_suffix(".stdout").write_text(result.stdout)
    return file


@pytest.fixture
def data(evaluated, tmp_path) -> Path:
    """An empty folder for networks, with that evaluation beside it."""
    shutil.copy(evaluated, tmp_path / stored.FILE)
    folder = tmp_path / "networks"
    folder.mkdir()
    return folder


@pytest.mark.slow
def test_json_has_splits_noise_and_baselines(evaluated):
    """The figures that others read are there, under their names, as fractions or null."""
    told = json.loads(evaluated.with_suffix(".stdout").read_text())
    assert told["learner"] == "three-constants"
    assert set(told["splits"]) == {"random", "leave_family_out", "boundary"}
    for figures in (*told["splits"].values(), *told["baselines"].values()):
        for name in FIGURES:
            assert figures[name] is None or figures[name] >= 0
        assert 0 <= figures["within_5"] <= figures["within_10"] <= 1
    assert set(told["baselines"]) == {"flops-bytes"}
    assert set(told["baselines"]["flops-bytes"]["splits"]) == set(told["splits"])
    assert told["label_noise"] is None or {"within_5", "within_10"} <= set(told["label_noise"])
    assert told["retrained"] is True
    assert told["splits"]["random"]["n"] == told["dataset"]["rows"]
    assert set(told["splits"]["random"]["regimes"]) == {"native", "fits", "pages"}


def test_stored_figures_are_shown_without_training(run, data, shard, monkeypatch):
    """Without --retrain nothing learns: the stored figures are printed, with their date."""
    monkeypatch.setattr(stored, "evaluate", lambda *_: pytest.fail("trained"))
    for path in shard.glob("*.parquet"):
        shutil.copy(path, data)
    result = run("evaluate", "--data", data)
    assert result.exit_code == 0, result.stderr
    assert json.loads((data.parent / stored.FILE).read_text())["date"][:10] in result.stdout
    assert "another dataset" not in result.stdout
    assert "label noise" in result.stdout or "measured twice" in result.stdout


def test_another_dataset_is_named(run, data):
    """Figures of one dataset are not shown as those of another."""
    with DatasetWriter(data, "here", {}) as writer:
        writer.add(record(1))
        writer.flush()
    result = run("evaluate", "--data", data)
    assert "another dataset" in " ".join(result.stdout.split())
    assert json.loads(run("evaluate", "--data", data, "--json").stdout)["dataset_differs"] is True


def test_without_a_dataset_stored_figures_are_still_shown(run, data):
    """The figures can be read without the networks; null says that the dataset was not compared."""
    assert json.loads(run("evaluate", "--data", data, "--json").stdout)["dataset_differs"] is None


def test_the_checkouts_figures_are_those_of_its_dataset(run):
    """The stored evaluation of the checkout was made of the dataset beside it."""
    told = json.loads(run("evaluate", "--data", DATASET, "--json").stdout)
    assert told["dataset_differs"] is False
    assert {told["learner"], *told["baselines"]} == set(learners())


def test_the_checkouts_page_shows_its_stored_figures(run, tmp_path):
    """What is generated of docs/accuracy.md is what the stored evaluation gives."""
    page = DATASET.parents[1] / "docs" / "accuracy.md"
    again = tmp_path / "accuracy.md"
    again.write_text(page.read_text())
    run("evaluate", "--data", DATASET, "--markdown", again)
    assert again.read_text() == page.read_text()


def test_where_stored_figures_are_found_is_said(run, tmp_path):
    """An installed package has none: the error names the file, the checkout and both remedies."""
    result = run("evaluate", "--data", tmp_path / "networks")
    assert result.exit_code == 30
    for words in ("evaluation.json is missing", "checkout", "--data", "--retrain"):
        assert words in " ".join(result.stderr.split())


def test_only_what_is_asked_for_is_shown(run, data):
    """--only picks among the stored learners; one that is not stored is refused with the names there are."""
    assert json.loads(run("evaluate", "--data", data, "--only", "three-constants", "--json").stdout)["baselines"] == {}
    result = run("evaluate", "--data", data, "--only", "kernel-additive")
    assert result.exit_code == 2
    assert "flops-bytes" in result.stderr


@pytest.mark.slow
def test_pictures_are_drawn(run, data, tmp_path):
    """The three pictures of the page are written as PNG files."""
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib: install sectum[train]")
    result = run("evaluate", "--data", data, "--pictures", tmp_path / "pictures")
    assert result.exit_code == 0, result.stderr
    drawn = sorted(path.name for path in (tmp_path / "pictures").glob("*.png"))
    assert drawn == ["errors.png", "intervals.png", "predictions.png"]
    assert all((tmp_path / "pictures" / name).read_bytes().startswith(b"\x89PNG") for name in drawn)


def test_what_people_wrote_is_kept(run, data, tmp_path):
    """The page is generated anew, but for the part between the marks."""
    page = tmp_path / "accuracy.md"
    assert run("evaluate", "--data", data, "--markdown", page).exit_code == 0
    text = page.read_text()
    reasons = "\n## Why\nBecause.\n"
    page.write_text(f"old\n{BEGIN}{reasons}{END}\nold\n")
    assert run("evaluate", "--data", data, "--markdown", page).exit_code == 0
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    assert page.read_text() == text[:begin] + reasons + text[end:]


@pytest.mark.parametrize("text", [BEGIN, END, f"{END} {BEGIN}"])
def test_a_page_with_one_mark_is_refused(tmp_path, text):
    """What people wrote is not thrown away because a mark was lost."""
    page = tmp_path / "accuracy.md"
    page.write_text(f"words {text} words")
    with pytest.raises(UsageError, match="marks"):
        kept_part(page)


def test_no_dataset_is_refused(run, tmp_path):
    """--retrain without shards says what was expected."""
    result = run("evaluate", "--retrain", "--data", tmp_path)
    assert result.exit_code == 32
    assert "holds no shards" in result.stderr


def test_too_few_networks_are_refused(run, tmp_path):
    """One network has nothing to be predicted from."""
    with DatasetWriter(tmp_path, "here", {}) as writer:
        writer.add(record(1))
        writer.flush()
    result = run("evaluate", "--retrain", "--data", tmp_path)
    assert result.exit_code == 32
    assert "collect more" in result.stderr


def test_a_damaged_shard_is_refused(run, shard, tmp_path):
    """A shard with one byte changed is not learned from."""
    (source,) = shard.glob("*.parquet")
    content = bytearray(source.read_bytes())
    content[1000] ^= 1
    (tmp_path / source.name).write_bytes(content)
    result = run("evaluate", "--retrain", "--data", tmp_path)
    assert result.exit_code == 32
    assert "damaged" in result.stderr


def test_pyarrow_is_asked_for(run, shard, monkeypatch):
    """Without pyarrow the message says what to install."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    result = run("evaluate", "--retrain", "--data", shard)
    assert result.exit_code == 2
    assert "pip install '.[train]'" in result.stderr


def test_an_unknown_learner_is_refused_before_anything_is_read(run, tmp_path):
    """A misspelt name is told at once, with those there are."""
    result = run("evaluate", "--retrain", "--data", data, "--only", "page-modell")
    assert result.exit_code == 2
    assert "page-model" in result.stderr


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": 0}', b'{"format": 1}'])
def test_a_damaged_evaluation_is_refused(run, tmp_path, content):
    """A stored evaluation that is not one is named, with what to do."""
    (tmp_path / stored.FILE).write_bytes(content)
    result = run("evaluate", "--data", tmp_path / "networks")
    assert result.exit_code == 30
    assert "--retrain" in result.stderr


def test_an_unwritable_place_is_refused_before_the_work(run, shard, tmp_path, monkeypatch):
    """Half an hour of training is not thrown away for want of a folder."""
    monkeypatch.setattr(stored, "evaluate", lambda *_: pytest.fail("trained"))
    result = run("evaluate", "--retrain", "--data", shard, "--out", tmp_path / "missing" / "evaluation.json")
    assert result.exit_code == 2
    assert "missing" in result.stderr


def test_the_digest_is_of_the_shards(shard, tmp_path):
    """Two folders with the same shards have one digest, whatever else lies in them."""
    for path in shard.glob("*.parquet"):
        shutil.copy(path, tmp_path / path.name)
    (tmp_path / "notes.txt").write_text("x")
    assert stored.dataset_digest(tmp_path) == stored.dataset_digest(shard)
