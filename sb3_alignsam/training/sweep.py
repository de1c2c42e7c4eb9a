"""`optimize`: train with one set of hyperparameters after the other, and keep what was learnt about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optuna.exceptions import TrialPruned
from optuna.study import MaxTrialsCallback, Study
from optuna.trial import FrozenTrial, Trial, TrialState
from stable_baselines3.common.callbacks import BaseCallback

from sb3_alignsam.envs.making import make_env
from sb3_alignsam.errors import InputError, RunStopped
from sb3_alignsam.training.config import Hyperparams, check_hyperparams
from sb3_alignsam.training.run import train, try_policy
from sb3_alignsam.training.search_space import Dimension, with_values
from sb3_alignsam.training.settings import RunSettings
from sb3_alignsam.training.studies import SamplerOfTrials, fail_killed_trials, make_pruner, open_study
from sb3_alignsam.training.sweep_files import SweepFiles

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
"""Trials that count towards `max_total_trials`: running ones do, else each process would begin one too many."""
SCORE = "eval/miou_at_"


@dataclass(frozen=True)
class Sweep:
    """A search over hyperparameters.

    :param settings: of each trial's run; ``eval_freq`` and ``logs`` are set by the search.
    :param base: hyperparameters that the searched ones replace. :param space: what is searched.
    :param study_name: trials of one name belong together. :param storage: see `open_study`.
    :param sampler: one of `SAMPLERS`. :param pruner: one of `PRUNERS`.
    :param n_startup_trials: drawn at random, and pruned by none, at first.
    :param n_evaluations: of a trial, by which it is judged and may be pruned.
    """

    settings: RunSettings
    base: Hyperparams
    space: Sequence[Dimension]
    study_name: str
    storage: str
    sampler: str = "tpe"
    pruner: str = "median"
    n_startup_trials: int = 10
    n_evaluations: int = 4

    @property
    def folder(self) -> Path:
        """Where the results and the trials' runs go."""
        return self.settings.logs / "optimize" / self.study_name

    @property
    def eval_freq(self) -> int:
        """Environment steps between two evaluations."""
        return max(self.base.n_timesteps // self.n_evaluations, 1)

    def about(self) -> dict[str, Any]:
        """What must be the same for every process that takes part."""
        settings = self.settings
        return {
            "env_id": settings.env_id,
            "algo": settings.algo,
            "seed": settings.seed,
            "env_kwargs": dict(settings.env_kwargs),
            "eval_episodes": settings.eval_episodes,
            "n_evaluations": self.n_evaluations,
            "hyperparams": self.base.raw,
            "space": {each.name: [*each.extremes(), each.log, each.step] for each in self.space},
        }


class TrialCallback(BaseCallback):
    """Reports a trial's mIoU on dev, which an `EvaluationCallback` before it in the list records, and ends the training
    where the study has seen enough of it.

    :param watch: what is reported to.
    """

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    def _on_step(self) -> bool:
        return not self.watch.pruned

    def _on_rollout_end(self) -> None:
        self._look()
        self.watch.judge(self.num_timesteps)

    def _on_training_end(self) -> None:
        self._look()

    def _look(self) -> None:
        recorded = self.logger.name_to_value
        last = max((int(name.removeprefix(SCORE)) for name in recorded if name.startswith(SCORE)), default=None)
        self.watch.fresh = None if last is None else float(recorded[f"{SCORE}{last}"])
        if self.watch.fresh is not None:
            self.watch.value = self.watch.fresh


@dataclass
class Watch:
    """One trial while it trains.

    :param eval_freq: steps between two evaluations. :param value: its latest mIoU on dev. :param fresh: the same where
        it was found in this rollout. :param pruned: whether it is to end early.
    """

    trial: Trial
    eval_freq: int
    value: float | None = None
    fresh: float | None = None
    pruned: bool = False

    def judge(self, steps: int) -> None:
        """Report a fresh value as that of the latest evaluation that is due, so that trials with rollouts of different
        lengths are compared at about the same step."""
        if self.fresh is not None:
            self.trial.report(self.fresh, steps // self.eval_freq)
            self.pruned = self.trial.should_prune()


def run_sweep(
    sweep: Sweep, n_trials: int, max_total_trials: int | None, report: Callable[[str], None] = print
) -> SweepFiles:
    """Run trials, and write the study's results after each one.

    :param n_trials: of this process. :param max_total_trials: of the whole study; None: no limit.
    :raises InputError: a setting cannot be used, or the storage cannot.
    """
    _try_once(sweep)
    sampler = SamplerOfTrials(sweep.sampler, sweep.settings.seed, sweep.n_startup_trials)
    pruner = make_pruner(sweep.pruner, sweep.n_startup_trials, sweep.n_evaluations)
    study = open_study(sweep.storage, sweep.study_name, sweep.about(), sampler, pruner)
    files = SweepFiles(sweep.folder)
    report(f"study '{sweep.study_name}' has {len(study.trials)} trials; results go to {sweep.folder}")

    def tell(study: Study, trial: FrozenTrial) -> None:
        files.write(study, sweep.settings, sweep.base.n_timesteps)
        report(line_of(study, trial))

    callbacks: list[Any] = [tell]
    if max_total_trials is not None:
        fail_killed_trials(study)
        if len(study.get_trials(deepcopy=False, states=COUNTED)) >= max_total_trials:
            n_trials = 0
        callbacks.append(MaxTrialsCallback(max_total_trials, states=COUNTED))
    if n_trials:
        # Environments and models lie in cycles, which hold workers and memory until they are collected.
        study.optimize(
            lambda trial: _run_trial(study, sweep, trial), n_trials, callbacks=callbacks, gc_after_trial=True
        )
    files.write(study, sweep.settings, sweep.base.n_timesteps)
    return files


def line_of(study: Study, trial: FrozenTrial) -> str:
    """One line for people on a trial that has ended."""
    drawn = "  ".join(f"{name} {_short(value)}" for name, value in trial.params.items())
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    best = trial.state == TrialState.COMPLETE and trial.number == study.best_trial.number
    score = "-" if trial.value is None else f"{trial.value:.4f}"
    note = "  best so far" if best and len(done) > 1 else ""
    reason = trial.user_attrs.get("reason")
    return f"trial {trial.number:>3}  {trial.state.name.lower():<8}  {score:<6}  {reason or drawn}{note}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _try_once(sweep: Sweep) -> None:
    """A user's mistake ends the command before any trial.

    :raises InputError: the environment, its dev episodes or a value of ``policy_kwargs`` cannot be used.
    """
    kwargs = sweep.settings.env_kwargs
    try:
        make_env(sweep.settings.env_id, {**kwargs, "subset": "dev"})
    except InputError as error:
        raise InputError(f"there are no dev episodes to judge trials by: {error}") from error
    env = make_env(sweep.settings.env_id, {**kwargs, "subset": "fit"})
    try_policy(sweep.base, env)
    for dimension in sweep.space:
        for value in dimension.extremes() if dimension.keys[0] == "policy_kwargs" else ():
            raw = with_values(sweep.base.raw, {dimension.keys: value})
            try:
                try_policy(check_hyperparams(raw, sweep.settings.algo), env)
            except InputError as error:
                raise InputError(f"{dimension.place}: {error}") from error


def _run_trial(study: Study, sweep: Sweep, trial: Trial) -> float:
    """Train with the trial's hyperparameters; its mIoU on dev at the end."""
    raw = with_values(sweep.base.raw, {each.keys: each.draw(trial) for each in sweep.space})
    trial.set_user_attr("hyperparams", raw)
    try:
        hyperparams = check_hyperparams(raw, sweep.settings.algo)
    except InputError as error:
        raise _pruned(trial, error) from error
    watch = Watch(trial, sweep.eval_freq)
    callbacks: list[tuple[type[BaseCallback], dict[str, Any]]] = [
        *hyperparams.callbacks,
        (TrialCallback, {"watch": watch}),
    ]
    settings = replace(sweep.settings, logs=sweep.folder / "runs", eval_freq=sweep.eval_freq, progress=False)
    command = ["sb3-alignsam", "optimize", "--study-name", sweep.study_name]
    try:
        folder = train(settings, replace(hyperparams, callbacks=callbacks), command, lambda line: None)
    except InputError:
        raise
    except (ValueError, AssertionError) as error:  # SB3's own check of a network that has become NaN
        raise _pruned(trial, error) from error
    except RunStopped as stopped:  # its run could be resumed, but would tell the study nothing
        again = f"the trial counts as failed; the same command goes on with study '{sweep.study_name}'"
        raise RunStopped(again, stopped.exit_code) from stopped
    except KeyboardInterrupt:  # a second signal, which Optuna takes for no failure
        study.tell(trial, state=TrialState.FAIL)
        raise
    trial.set_user_attr("run", str(folder))
    if watch.pruned:
        raise TrialPruned
    if watch.value is None:
        raise InputError("a trial ended without an evaluation; take fewer --n-evaluations or more steps")
    return watch.value


def _pruned(trial: Trial, error: Exception) -> TrialPruned:
    """What ends a trial whose hyperparameters do not go together, with the reason kept."""
    reason = " ".join(str(error).split())[:200]
    trial.set_user_attr("reason", reason)
    return TrialPruned(reason)
