"""Going on with a run that was stopped, as if it never had been."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sb3_alignsam.datasets.image_record import ImageRecord, other_images
from sb3_alignsam.errors import InputError
from sb3_alignsam.training.checkpoint import newest_checkpoint
from sb3_alignsam.training.distributed import ALONE, Ranks
from sb3_alignsam.training.following import follow
from sb3_alignsam.training.logs import cut_back
from sb3_alignsam.training.repeating import read_run
from sb3_alignsam.training.run import check_imitation, prepare, train_in
from sb3_alignsam.training.run_folder import ARGS, alone, is_finished
from sb3_alignsam.training.versions import current_versions, differences
from sb3_alignsam.yaml_files import read_yaml


def resume(run: Path, changes: Mapping[str, Any], report: Callable[[str], None] = print, ranks: Ranks = ALONE) -> Path:
    """Train a stopped run to its end, from its newest checkpoint that can be used; `run` is returned.

    Where it has none yet it begins again, in the same folder. What was logged after the checkpoint is dropped first.

    :param changes: fields of `RunSettings` in place of the run's own, such as ``device``.
    :param ranks: of which all call this; as many as before go on exactly.
    :raises InputError: the folder cannot be resumed: it is none of a run, the run is finished, another process trains
        in it, or none of its checkpoints can be used.
    :raises RunError: see `train_in`. :raises RunStopped: likewise.
    """
    recorded = read_run(run)
    path = recorded.inner / ARGS
    if "keep_checkpoints" not in read_yaml(path).content:
        raise InputError(f"{path}: the run is of an earlier version, which kept nothing to go on from")
    settings, hyperparams = dataclasses.replace(recorded.settings, **changes), recorded.hyperparams({})
    if not ranks.leader:
        device, probe = prepare(settings, hyperparams, ranks)
        return follow(settings, hyperparams, probe, device, ranks)
    with alone(run, recorded.inner.name):
        if is_finished(recorded.inner):
            raise InputError(f"{run} is finished: all of its {hyperparams.n_timesteps} steps have been trained")
        device, probe = prepare(settings, hyperparams, ranks)
        checkpoint = newest_checkpoint(run, report)
        if checkpoint is None:
            check_imitation(settings, ranks)  # before anything is dropped
        cut_back(run, None if checkpoint is None else checkpoint.state["logs"])
        if checkpoint is None:
            (run / "evaluations.npz").unlink(missing_ok=True)
            report(f"{run} has no checkpoint yet: beginning again, in the same folder")
        else:
            steps = checkpoint.state["model"]["num_timesteps"]
            report(f"resuming {run} at {steps} of {hyperparams.n_timesteps} steps, from {checkpoint.path.name}")
            before = 1 + len(checkpoint.state.get("random_of_others", []))
            if before != ranks.size:
                report(
                    f"it was one of {before} ranks, this is one of {ranks.size}: weights, counters and episodes go on, "
                    "but draws from here on are not those that would have been"
                )
        images = ImageRecord.of(probe.dataset)
        for line in differences(recorded.inner, current_versions(device, probe)) + other_images(recorded.inner, images):
            report(f"warning: not as when the run began, so that its last bits may differ: {line}")
        train_in(run, settings, hyperparams, probe, device, report, checkpoint, ranks)
    return run
