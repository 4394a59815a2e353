"""Trains, judges and writes the detector; needs the extra ``learn``.

``python -m sectum.lab.detector.training --data data/networks --nchwc-block 16 --out
src/sectum/predict/artefacts/detector/avx512 --seed 0``
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sectum.errors import UsageError
from sectum.lab.dataset import dataset
from sectum.lab.detector import simulated
from sectum.lab.detector.detector import FORMS, PAGE_MODEL
from sectum.lab.detector.examples import Example, from_measured, from_simulated
from sectum.lab.detector.features import SCHEMA_VERSION, schema_hash
from sectum.lab.detector.fitting import Effort, Fitted, fit
from sectum.lab.detector.judging import Judged, gather
from sectum.lab.detector.network import WorkingSetNetwork, onnx_bytes
from sectum.lab.detector.picture import draw
from sectum.lab.training.measured import read, without_repeats

FOLDS, HELD_OUT_FOLDS = 5, 6
SIMULATED_NETWORKS = 1500
HELD_OUT, BY_TOPOLOGY, BY_FAMILY = "held out by topology", "five folds by topology", "folds of families"
"""Splits: of the artefact itself; of fits like it."""
_BOUNDARY = ", boundary"
_CLEARLY_BETTER = 0.9
_EXAMPLES_TO_TRACE = 3

Split = tuple[list[Example], list[Example], list[Example]]
"""Training, validation, test."""


def random_split(examples: Sequence[Example], seed: int, folds: int = FOLDS) -> Iterator[Split]:
    """Parts of about one size, no topology in two of them; each is the test once, the next one the validation."""
    topologies = sorted({example.topology for example in examples})
    random.Random(seed).shuffle(topologies)  # noqa: S311 - a split, not a secret
    fold_of = {topology: number % folds for number, topology in enumerate(topologies)}
    return _rotate(examples, lambda example: fold_of[example.topology], folds)


def leave_families_out(examples: Sequence[Example], seed: int, folds: int) -> Iterator[Split]:
    """Families are the test once; of what is left, a fifth of the topologies is the validation.

    Args:
        examples: all.
        seed: decides which families go together, and the validation.
        folds: tests; as many as there are families leaves out one at a time.
    """
    families = sorted({example.family for example in examples})
    random.Random(seed).shuffle(families)  # noqa: S311 - a split, not a secret
    fold_of = {family: number % folds for number, family in enumerate(families)}
    for fold in range(min(folds, len(families))):
        left = [example for example in examples if fold_of[example.family] != fold]
        training, validation = hold_out(left, seed)
        yield training, validation, [example for example in examples if fold_of[example.family] == fold]


def hold_out(examples: Sequence[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Training and validation, no topology in both."""
    return next((a + b, c) for a, b, c in random_split(examples, seed))


def _rotate(examples: Sequence[Example], fold_of: Callable[[Example], int], folds: int) -> Iterator[Split]:
    for fold in range(folds):
        parts: Split = ([], [], [])
        for example in examples:
            away = (fold_of(example) - fold) % folds
            parts[2 if away == 0 else 1 if away == 1 else 0].append(example)
        yield parts


def judge(fitted: Fitted, test: Sequence[Example]) -> Judged:
    """Compare with what was measured.

    Raises:
        UsageError: there is a simulated network among them.
    """
    if any(example.simulated for example in test):
        raise UsageError("simulated networks among those to judge by: their working sets are not measured")
    rows = [(example, epc_bytes, pages) for example in test for epc_bytes, pages in example.rows]
    sets, scale = fitted.working_sets(test)
    measured = np.array([example.working_set_bytes for example in test], dtype=np.float64)
    middle = fitted.distribution.factor(scale)
    low, high = (sets / middle * fitted.distribution.factor(scale, share) for share in (0.05, 0.95))
    return Judged(
        probabilities=fitted.probabilities([row[0] for row in rows], [row[1] for row in rows]),
        over_committed=np.array([row[2] for row in rows], dtype=bool),
        occupations=np.array([example.working_set_bytes / epc_bytes for example, epc_bytes, _ in rows]),
        working_set_errors=np.log(sets / measured),
        in_interval=(measured >= low) & (measured <= high),
    )


def cross_validate(
    splits: Iterator[Split],
    form: str,
    seed: int,
    effort: Effort,
    extra: Sequence[Example],
    group: Callable[[Example], str],
) -> Judged:
    """Fit on each split and judge its test; simulated relatives of the test are not learned from.

    Args:
        splits: into training, validation, test.
        form: one of `FORMS`.
        seed: of each fit.
        effort: of each fit.
        extra: simulated networks.
        group: that relatives share: topology or family.
    """
    return gather(
        judge(fit(training, validation, seed, form=form, simulated=_strangers(extra, test, group), effort=effort), test)
        for training, validation, test in splits
    )


def _strangers(extra: Sequence[Example], test: Sequence[Example], group: Callable[[Example], str]) -> list[Example]:
    closed = {group(example) for example in test}
    return [example for example in extra if group(example) not in closed]


def _topology(example: Example) -> str:
    return example.topology


def _family(example: Example) -> str:
    return example.family


def train(
    data: Path,
    out: Path,
    seed: int,
    *,
    nchwc_block: int,
    simulations: Path,
    networks: int,
    effort: Effort,
    family_folds: int | None = None,
    picture: Path | None = None,
) -> dict[str, Any]:
    """Fit all forms, judge them on networks kept apart, write the artefact; gives the manifest.

    Args:
        data: measured networks.
        out: folder of the artefact.
        seed: of splits and weights.
        nchwc_block: networks of processors with this blocked layout are learned from; others execute other graphs.
        simulations: file of the simulated networks, which is made where it is not there.
        networks: simulated ones to learn from; 0 for none.
        effort: how much to learn.
        family_folds: besides, judge fits on five splits by topology and on as many by families; takes that many times
            longer.
        picture: file of a reliability diagram, of the splits by topology if there are any.
    """
    begin_s = time.monotonic()
    measured = [one for one in without_repeats(read(data)) if one.cpu.nchwc_block == nchwc_block]
    machines = sorted({network.machine for network in measured})
    if len(machines) != 1:
        raise UsageError(
            f"{data} holds networks of {', '.join(machines) or 'no such machine'}: give those of one machine"
        )
    examples = from_measured(measured)
    extra = from_simulated(simulated.make(simulations, networks, nchwc_block)) if networks else []
    out.mkdir(parents=True, exist_ok=True)
    forms: dict[str, Any] = {}
    shown: dict[str, Judged] = {}
    training, validation, test = next(random_split(examples, seed, HELD_OUT_FOLDS))
    for form in FORMS:
        _tell(begin_s, f"fitting '{form}'")
        fitted = fit(training, validation, seed, form=form, simulated=_strangers(extra, test, _topology), effort=effort)
        entry = {} if fitted.network is None else export(fitted.network, form, training, out)
        shown[form] = judge(fitted, test)
        accuracy = _with_boundary(HELD_OUT, shown[form])
        forms[form] = {**entry, "calibration": fitted.distribution.to_json(), "accuracy": accuracy}
        if family_folds is not None:
            _tell(begin_s, f"cross-validating '{form}'")
            for name, splits, group in (
                (BY_TOPOLOGY, random_split(examples, seed), _topology),
                (BY_FAMILY, leave_families_out(examples, seed, family_folds), _family),
            ):
                judged = cross_validate(splits, form, seed, effort, extra, group)
                accuracy |= _with_boundary(name, judged)
                if name == BY_TOPOLOGY:
                    shown[form] = judged
    if picture is not None:
        draw(shown, picture, title="Measured networks, each in two sizes of EPC, of topologies not learned from")
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "schema_sha256": schema_hash(),
        "machine": machines[0],
        "nchwc_block": nchwc_block,
        "default": best({form: stored["accuracy"] for form, stored in forms.items()}),
        "forms": forms,
        "training": {
            "kind": "measured; the form 'gnn' learned from simulated working sets first",
            "dataset_sha256": _digest(data),
            "networks": len(training),
            "validation_networks": len(validation),
            "test_networks": len(test),
            "simulated_networks": len(extra),
            "simulated_seed": simulated.SEED,
            "families": dict(Counter(example.family for example in examples)),
            "family_folds": family_folds,
            "effort": asdict(effort),
            "seed": seed,
            "torch": torch.__version__,
            "seconds": round(time.monotonic() - begin_s),
        },
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def best(figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The form to use where none is asked for, from the figures of each on each split.

    The page model alone, unless the probabilities of another have a squared error at the boundary that is less by more
    than a tenth on every split.
    """
    chosen = PAGE_MODEL
    for form in FORMS:
        boundaries = [split for split in figures[form] if split.endswith(_BOUNDARY)]
        ratios = [figures[form][name]["brier"] / max(figures[chosen][name]["brier"], 1e-12) for name in boundaries]
        if max(ratios) < _CLEARLY_BETTER:
            chosen = form
    return chosen


def _with_boundary(name: str, judged: Judged) -> dict[str, dict[str, float]]:
    return {name: judged.figures(), f"{name}{_BOUNDARY}": judged.boundary().figures()}


def export(network: WorkingSetNetwork, form: str, examples: Sequence[Example], out: Path) -> dict[str, str]:
    """Write a network as ONNX, traced with some of the examples; gives the file's name and SHA-256."""
    name = f"{form.replace('+', '-').replace(' ', '-')}.onnx"
    traced = [example.features for example in examples if len(example.features.edges)]
    content = onnx_bytes(network, traced[:_EXAMPLES_TO_TRACE])
    (out / name).write_bytes(content)
    return {"file": name, "sha256": hashlib.sha256(content).hexdigest()}


def _digest(data: Path) -> str:
    """Names the dataset: its shards' names have digests of their content."""
    return hashlib.sha256("\n".join(path.name for path in dataset.shards(data)).encode()).hexdigest()


def _tell(begin_s: float, what: str) -> None:
    print(f"{time.monotonic() - begin_s:6.0f} s  {what}", file=sys.stderr, flush=True)  # noqa: T201 - a training script


def main(arguments: Sequence[str] | None = None) -> int:
    """Train from the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nchwc-block", type=int, choices=(8, 16), required=True, help="16 with AVX-512, else 8")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--simulated", type=Path, default=Path("simulated.parquet"), help="made if it is not there")
    parser.add_argument("--simulated-networks", type=int, default=SIMULATED_NETWORKS, help="0: none")
    parser.add_argument("--visits", type=int, default=Effort().measured, help="graphs seen in each stage of learning")
    parser.add_argument("--family-folds", type=int, help="cross-validate too: groups of families left out")
    parser.add_argument("--picture", type=Path, help="PNG file of a reliability diagram")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch; results depend on it in the last digits")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    manifest = train(
        options.data,
        options.out,
        options.seed,
        nchwc_block=options.nchwc_block,
        simulations=options.simulated,
        networks=options.simulated_networks,
        effort=Effort(simulated=options.visits, measured=options.visits),
        family_folds=options.family_folds,
        picture=options.picture,
    )
    json.dump({form: stored["accuracy"] for form, stored in manifest["forms"].items()}, sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
