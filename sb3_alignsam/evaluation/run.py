"""Evaluations of runs, from folders to reports."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from tqdm import tqdm

import sb3_alignsam
from sb3_alignsam.datasets.image_record import read_record
from sb3_alignsam.envs.making import make_env
from sb3_alignsam.errors import InputError
from sb3_alignsam.evaluation.agents import LoadedAgent, load_agent, make_clickers
from sb3_alignsam.evaluation.calibration import Calibration, fit_calibration
from sb3_alignsam.evaluation.parts import Parts
from sb3_alignsam.evaluation.protocol import evaluate, spread
from sb3_alignsam.evaluation.records import EpisodeId, Record
from sb3_alignsam.evaluation.report_files import ReportFiles, write_run_files, write_runs_files
from sb3_alignsam.evaluation.summary import summary, summary_of_runs
from sb3_alignsam.evaluation.tables import print_runs_table, print_table
from sb3_alignsam.policies.clickers import Clicker
from sb3_alignsam.policies.foreign import Trust

CALIBRATION_EPISODES = 64
"""Dev episodes on which the agent's scores are calibrated."""
OF_A_RUN = ("majority",)
"""Baselines that are made from a trained agent; the others are the same beside every run."""


@dataclass(frozen=True)
class Settings:
    """What is evaluated, and how.

    :param split: None: see `load_agent`. :param load_best: the best model, not the last one.
    :param episodes: how many, spread evenly over the split; None: all. :param clicks: None: the run's budget.
    :param baselines: names; None: `DEFAULT_BASELINES`. :param env_kwargs: keywords that replace those of training.
    :param trust: of zips that do not describe themselves.
    """

    split: str | None = None
    load_best: bool = False
    episodes: int | None = None
    clicks: int | None = None
    baselines: Sequence[str] | None = ()
    env_kwargs: Mapping[str, Any] | None = None
    trust: Trust | None = None


@dataclass(frozen=True)
class _Played:
    """One run's evaluation. :param trained_on: how many of the images the run was trained on; None: it is not known."""

    agent: LoadedAgent
    files: ReportFiles
    parts: Parts
    ids: list[EpisodeId]
    records: list[Record]
    trained_on: int | None


def evaluate_run(
    run: Path,
    *,
    out: Path | None = None,
    json_file: Path | None = None,
    console: Console | None = None,
    progress: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Evaluate a run and write figures, tables, curves, a contact sheet and COCO results, see `ReportFiles`.

    An evaluation that was stopped goes on where it was when the same is asked for again.

    :param out: folder of the report; None: ``report/`` beside the zip. :param json_file: another place for the JSON.
    :param settings: fields of `Settings`.
    :return: the figures, see `summary`.
    :raises InputError: the run, the split, a baseline, a keyword or a place to write to cannot be used.
    """
    asked, console = Settings(**settings), console or Console(quiet=True)
    agent = load_agent(run, asked.split, asked.load_best, asked.env_kwargs, asked.trust)
    files = _files(agent, out, json_file)
    played = _play(agent, files, asked, (), console, progress)
    return _report(played, console, loud=True)


def evaluate_runs(
    runs: Sequence[Path],
    *,
    out: Path | None = None,
    json_file: Path | None = None,
    console: Console | None = None,
    progress: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Evaluate several runs of one configuration (seeds), each as `evaluate_run` does, and all of them together.

    Baselines that are made from no agent are played once.

    :param out: folder of the common report; None: ``report/`` of the first run, ``eval_<split>_<n>_runs`` in it. With
        it, each run's own report goes to ``<out>/<number>_<run>/``.
    :param json_file: another place for the common JSON. :param settings: fields of `Settings`.
    :return: the common figures, see `summary_of_runs`.
    :raises InputError: as `evaluate_run`; or the runs differ in more than their seeds.
    """
    asked, console = Settings(**settings), console or Console(quiet=True)
    agents = [load_agent(run, asked.split, asked.load_best, asked.env_kwargs, asked.trust) for run in runs]
    _check_alike(agents)
    folders = [None if out is None else out / f"{n}_{_run_name(a)}" for n, a in enumerate(agents, start=1)]
    of_runs = [_files(agent, folder, None) for agent, folder in zip(agents, folders, strict=True)]
    common_folder = out or agents[0].zip_path.parent / "report"
    common = ReportFiles.of(common_folder, f"{agents[0].env.dataset.split}_{len(runs)}_runs", json_file)
    common.check()
    done: list[_Played] = []
    for agent, files in zip(agents, of_runs, strict=True):
        console.print(f"{agent.zip_path}", soft_wrap=True)
        shared = done[0].records if done else ()
        done.append(_play(agent, files, asked, shared, console, progress))
    for played in done:
        _report(played, console, loud=False)
    about = {**_about(done[0]), "num_timesteps": [played.agent.description.num_timesteps for played in done]}
    zips = [str(played.agent.zip_path) for played in done]
    report = summary_of_runs(done[0].ids, [played.records for played in done], about, zips)
    write_runs_files(common, report)
    print_runs_table(report, console)
    for played in done:
        console.print(f"of one run: {played.files.tables}", soft_wrap=True)
    console.print(f"figures: {common.figures}\ntables:  {common.tables}\ncurves:  {common.curves}", soft_wrap=True)
    return report


def _files(agent: LoadedAgent, out: Path | None, json_file: Path | None) -> ReportFiles:
    files = ReportFiles.of(out or agent.zip_path.parent / "report", agent.env.dataset.split, json_file)
    files.check()
    return files


def _play(
    agent: LoadedAgent,
    files: ReportFiles,
    asked: Settings,
    shared: Sequence[Record],
    console: Console,
    progress: bool,
) -> _Played:
    """Play what is asked for. :param shared: records of an earlier run, whose baselines are not played again."""
    clicks = asked.clicks or agent.env.max_steps
    total = len(agent.env.dataset)
    indices = spread(total, total if asked.episodes is None else asked.episodes)
    trained_on = _check_images(agent, indices, console)
    clickers = make_clickers(agent, asked.baselines, clicks, lambda line: console.print(line, soft_wrap=True))
    known = {record.name: record for record in shared if record.name not in ("agent", *OF_A_RUN)}
    new = [clicker for clicker in clickers if clicker.name not in known]
    parts = Parts(files.tables.parent, _key(agent, new, indices, clicks))
    with tqdm(total=len(indices), disable=not progress, unit="episode") as bar:
        ids, records = evaluate(agent.env, new, indices, clicks, bar.update, parts)
    by_name = {**known, **{record.name: record for record in records}}
    return _Played(agent, files, parts, ids, [by_name[clicker.name] for clicker in clickers], trained_on)


def _check_images(agent: LoadedAgent, indices: Sequence[int], console: Console) -> int | None:
    """Warn where images that are to be evaluated are among those that the run was trained on, and count them."""
    dataset = agent.env.dataset
    record = read_record(agent.zip_path.parent / agent.description.env_id)
    if record is None:
        return None
    shared = record.shared_with(dataset, indices)
    if shared != 0:
        number = "some" if shared is None else str(shared)
        console.print(
            f"warning: {number} of the images are ones that the run was trained on, so the figures say nothing of new "
            f"images (dataset {dataset.name}, split {dataset.split}); name another with --split",
            soft_wrap=True,
        )
    return shared


def _key(agent: LoadedAgent, clickers: Sequence[Clicker], indices: Sequence[int], clicks: int) -> dict[str, Any]:
    """All that decides what is found out about each episode."""
    return {
        "version": sb3_alignsam.__version__,
        "zip": hashlib.sha256(agent.zip_path.read_bytes()).hexdigest(),
        "env_id": agent.description.env_id,
        "env_kwargs": agent.env_kwargs,
        "dev_kwargs": agent.dev_kwargs,
        "clickers": [clicker.name for clicker in clickers],
        "episodes": list(indices),
        "clicks": clicks,
    }


def _about(played: _Played) -> dict[str, Any]:
    description = played.agent.description
    return {
        "zip": played.agent.zip_path.name,
        "env_id": description.env_id,
        "algo": description.algo,
        "policy": description.policy,
        "split": played.agent.env.dataset.split,
        "images_trained_on": played.trained_on,
        "num_timesteps": description.num_timesteps,
        "imitation_steps": description.imitation_steps,
        "clicks": played.records[0].answer_iou.shape[1],
    }


def _report(played: _Played, console: Console, loud: bool) -> dict[str, Any]:
    """Write one run's report; its parts are not needed any more. :param loud: also show it."""
    files, ids, records = played.files, played.ids, played.records
    calibration = _calibration(played.agent, records[0].answer_iou.shape[1])
    report = summary(ids, records, _about(played), calibration)
    write_run_files(files, report, played.agent.env, ids, records[0], calibration)
    played.parts.remove()
    if loud:
        print_table(report, console)
        lines = [f"figures:  {files.figures}", f"tables:   {files.tables}", f"curves:   {files.curves}"]
        lines += [f"episodes: {files.episodes}", f"results:  {files.results}"]
        console.print("\n".join(lines), soft_wrap=True)
    return report


def _calibration(agent: LoadedAgent, clicks: int) -> Calibration:
    """Fitted on the agent's answers on dev, which must not be what is reported."""
    try:
        dev = make_env(agent.description.env_id, agent.dev_kwargs)
    except InputError:
        return Calibration(note="raw predicted IoU: there are no dev episodes to calibrate on")
    if dev.dataset.split == agent.env.dataset.split:
        return Calibration(note="raw predicted IoU: the split reported is the one to calibrate on")
    _, (record,) = evaluate(dev, [agent.clicker], spread(len(dev.dataset), CALIBRATION_EPISODES), clicks)
    return fit_calibration(record.predicted_iou[:, -1], record.answer_iou[:, -1])


def _check_alike(agents: Sequence[LoadedAgent]) -> None:
    """:raises InputError: agents differ in what an average over seeds must not mix."""
    first = agents[0]
    for other in agents[1:]:
        for name in ("algo", "env_id", "env_kwargs", "policy", "policy_kwargs"):
            values = [getattr(each.description, name) for each in (first, other)]
            if values[0] != values[1]:
                raise InputError(
                    f"{first.zip_path} and {other.zip_path} are not seeds of one configuration: their {name} are "
                    f"{values[0]} and {values[1]}; evaluate them one by one"
                )
    if len({agent.zip_path.resolve() for agent in agents}) < len(agents):
        raise InputError("a run is named twice; name each run once")


def _run_name(agent: LoadedAgent) -> str:
    return agent.zip_path.resolve().parent.name
