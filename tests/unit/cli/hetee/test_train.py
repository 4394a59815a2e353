"""The command that trains: what it says when it is wrong, or ends early."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from sectum.errors import SectumError
from sectum.hetee.errors import Refusal, refusal

Command = Callable[..., Result]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten pictures of two classes: one pass over those that are not held out is two steps of four."""
    path = tmp_path / "pictures.npz"
    rng = np.random.default_rng(1)
    np.savez(path, images=rng.random((10, 1, 8, 8), np.float32), labels=np.arange(10, dtype=np.int64) % 2)
    return path


@pytest.fixture
def ends_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, BaseException], None]:
    """Makes a training that ends with an error after some steps, two in a pass, and needs no rack."""

    @contextmanager
    def session(_options: dict[str, Any]) -> Iterator[Any]:
        yield SimpleNamespace(resize=lambda count, wait_s: ())

    def make(steps: int, error: BaseException) -> None:
        def run_inside(_session: Any, _work: Any, run: Any, options: dict[str, Any], _progress: Any) -> None:
            run.losses += [1.0] * steps
            run.ends += list(range(2, steps + 1, 2))
            run.accuracies += [0.5] * len(run.ends)
            run.saved = run.ends[-1] if run.ends and options["checkpoint"] is not None else 0
            raise error

        monkeypatch.setattr(importlib.import_module("sectum.cli.hetee.train"), "open_session", session)
        monkeypatch.setattr("sectum.cli.hetee.training_run.run_inside", run_inside)

    return make


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), refusal(Refusal.CONTROLLER_LOST, "the controller's connection ended")]
)
def test_a_training_that_ends_early_shows_what_it_reached(
    run: Command,
    pictures: Path,
    tmp_path: Path,
    ends_after: Callable[[int, BaseException], None],
    error: BaseException,
) -> None:
    """Ctrl-C and a lost rack leave the passes that were done, and how to go on from the checkpoint."""
    checkpoint = tmp_path / "c.safetensors"
    words = ("hetee", "train", "mlp", "--data", pictures, "--batch", "4", "--epochs", "3")
    ends_after(3, error)
    shown = run(*words, "--checkpoint", checkpoint)
    assert shown.exit_code
    assert "   1     1.0000  50.00%" in shown.output
    assert "ended after step 3 of 6" in shown.output
    assert f"{checkpoint} has done 2 steps: go on with --resume {checkpoint}" in " ".join(shown.output.split())
    assert "ended after" not in run(*words, "--json").output
    ends_after(1, error)
    assert "no pass was finished" in run(*words, "--checkpoint", checkpoint).output
    ends_after(0, error)
    assert "ended after" not in run(*words).output


def test_a_file_that_is_no_checkpoint_is_named(run: Command, pictures: Path) -> None:
    """A wrong file for --resume is named, before a connection is opened."""
    shown = run("hetee", "train", "mlp", "--data", pictures, "--resume", pictures)
    assert shown.exit_code == 2
    assert f"'{pictures}' is no checkpoint" in shown.output


def test_an_error_of_the_file_system_is_shown_with_what_was_reached(
    run: Command, pictures: Path, ends_after: Callable[[int, BaseException], None]
) -> None:
    """A full disk does not hide the passes that were done."""
    ends_after(2, SectumError("c.safetensors cannot be written: No space left on device"))
    assert "ended after step 2" in run("hetee", "train", "mlp", "--data", pictures, "--batch", "4").output
