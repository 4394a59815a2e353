"""Trials of a search in a database of Optuna: each is written whole, in one transaction, when it has ended.

A process that is killed leaves the trials that had ended and nothing of those that had not. So a search goes on where
it was, and no trial counts twice. Several processes may write into one study; each takes over what others have written.
"""

from __future__ import annotations

import contextlib
import json
import uuid
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from sectum.errors import UsageError

if TYPE_CHECKING:
    import optuna

DIRECTIONS: tuple[Literal["minimize"], Literal["maximize"]] = ("minimize", "maximize")
METRICS = ("latency_ms", "score")
ATTRIBUTE = "sectum"
"""Name of what is stored with a study, and with each of its trials."""
_START = "start:"
_WAIT_S = 60
"""For another process that writes into the same file."""


class Store:
    """One study in a database. `process` tells the trials that this object wrote from those of others.

    Args:
        url: of the database, such as ``sqlite:///study.db``.
        name: of the study.
        settings: what its trials are valid for: JSON types.

    Raises:
        UsageError: the database cannot be opened, or the study is for other settings.
    """

    def __init__(self, url: str, name: str, settings: Mapping[str, Any]) -> None:
        import optuna

        if "://" not in url:
            raise UsageError(f"the storage '{url}' is no URL: write for example sqlite:///{url or 'study.db'}")
        arguments = {"connect_args": {"timeout": _WAIT_S}} if url.startswith("sqlite:") else {}
        try:
            storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments)
            self._study = optuna.create_study(
                storage=storage, study_name=name, directions=DIRECTIONS, load_if_exists=True
            )
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UsageError(f"the storage {url} cannot be opened: {reason}") from error
        self.process = uuid.uuid4().hex
        self._read = 0
        self._agree(url, name, json.loads(json.dumps(settings)))
        self.starts = sum(key.startswith(_START) for key in self._study.user_attrs)
        self._study.set_user_attr(f"{_START}{self.process}", self.starts)

    def _agree(self, url: str, name: str, settings: dict[str, Any]) -> None:
        stored = self._study.user_attrs.get(ATTRIBUTE)
        if stored is None and not self._study.get_trials(deepcopy=False):
            self._study.set_user_attr(ATTRIBUTE, settings)
            with contextlib.suppress(Exception), warnings.catch_warnings():  # for optuna-dashboard, which does without
                warnings.simplefilter("ignore")
                self._study.set_metric_names(list(METRICS))
        elif not isinstance(stored, dict):
            raise UsageError(f"the study '{name}' in {url} was not made by 'sectum search': choose another --study")
        elif stored != settings:
            different = ", ".join(
                f"{key} {stored.get(key)!r} instead of {settings.get(key)!r}"
                for key in sorted(stored.keys() | settings.keys())
                if stored.get(key) != settings.get(key)
            )
            raise UsageError(
                f"the study '{name}' in {url} is another search: it has {different}. Repeat its options, or choose "
                "another --study"
            )

    def new(self) -> list[optuna.trial.FrozenTrial]:
        """Trials that ended since this was last asked, but for those that `add` wrote."""
        trials = self._study.get_trials(deepcopy=False)[self._read :]
        self._read += len(trials)
        return [
            trial
            for trial in trials
            if trial.state.is_finished() and trial.user_attrs.get(ATTRIBUTE, {}).get("process") != self.process
        ]

    def add(self, trial: optuna.trial.FrozenTrial) -> None:
        """Write a trial that has ended."""
        self._study.add_trial(trial)
