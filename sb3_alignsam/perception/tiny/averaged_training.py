"""What the training scripts of the embedded networks share: AdamW, a moving average of weights, stop and resume."""

from __future__ import annotations

import copy
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch as th
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

WEIGHT_DECAY = 0.02
SAVE_EVERY = 100


class AveragedTraining(ABC):
    """Model, moving average, optimiser and the number of updates done; all of it goes into ``<name>_state.pt``.

    :param model: the network. :param helpers: networks that are trained with it and dropped afterwards.
    :param updates: length of the whole schedule: a linear warm-up, then a cosine to 1 %.
    :param learning_rate: the highest. :param device: where it runs.
    """

    name: str
    """Of the files: ``<name>.safetensors`` holds the moving average."""
    warmup_updates: int
    average_decay: float

    def __init__(self, model: nn.Module, helpers: nn.Module, updates: int, learning_rate: float, device: str) -> None:
        self.model, self.helpers = model.to(device), helpers.to(device)
        self.average = copy.deepcopy(self.model).eval()
        self.updates, self.learning_rate, self.device = updates, learning_rate, device
        parameters = [*self.model.parameters(), *self.helpers.parameters()]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = th.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
        self.done = 0

    @abstractmethod
    def loss(self, batch: Any) -> tuple[th.Tensor, dict[str, float]]:
        """Loss of one batch, and figures to show."""

    def update(self, batch: Any) -> dict[str, float]:
        """One optimiser step on one batch; returns the figures to show."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * self._schedule()
        self.model.train()
        loss, figures = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.done += 1
        self._update_average()
        return figures

    def stored(self, value: th.Tensor) -> th.Tensor:
        """A weight as it is shipped."""
        return value

    def save(self, folder: Path) -> None:
        """Write state and weights, each by renaming a finished file."""
        state = {part: getattr(self, part).state_dict() for part in _PARTS}
        _replace(folder / f"{self.name}_state.pt", lambda path: th.save({**state, "done": self.done}, path))
        weights = {key: self.stored(value).contiguous().cpu() for key, value in self.average.state_dict().items()}
        _replace(folder / f"{self.name}.safetensors", lambda path: save_file(weights, path))

    def restore(self, folder: Path) -> None:
        """Go on from a saved state where there is one."""
        path = folder / f"{self.name}_state.pt"
        if path.exists():
            state = th.load(path, map_location=self.device, weights_only=True)
            for part in _PARTS:
                getattr(self, part).load_state_dict(state[part])
            self.done = state["done"]

    def _schedule(self) -> float:
        if self.done < self.warmup_updates:
            return (self.done + 1) / self.warmup_updates
        progress = (self.done - self.warmup_updates) / max(self.updates - self.warmup_updates, 1)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    @th.no_grad()
    def _update_average(self) -> None:
        decay = min(self.average_decay, (self.done + 1) / (self.done + 10))
        for mean, value in zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


_PARTS = ("model", "helpers", "average", "optimizer")


def run_training(
    training: AveragedTraining,
    stream: Callable[[int], IterableDataset],
    out: Path,
    minutes: float | None,
    workers: int,
) -> None:
    """Train to the end of the schedule, or for some minutes; saves every `SAVE_EVERY` updates.

    :param stream: the batches from an update's number on. :param out: folder of state and weights.
    :param workers: processes that make batches.
    """
    out.mkdir(parents=True, exist_ok=True)
    training.restore(out)
    batches = stream(training.done)
    loader = DataLoader(batches, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
    started = time.monotonic()
    bar = tqdm(loader, total=training.updates, initial=training.done, disable=None, unit="update")
    recent: dict[str, float] = {}
    for batch in bar:
        figures = training.update(batch)
        recent = {key: 0.98 * recent.get(key, value) + 0.02 * value for key, value in figures.items()}
        bar.set_postfix({key: f"{value:.3f}" for key, value in recent.items()})
        stop = minutes is not None and time.monotonic() - started > 60 * minutes
        if training.done % SAVE_EVERY == 0 or stop:
            training.save(out)
            shown = " ".join(f"{key} {value:.3f}" for key, value in recent.items())
            click.echo(f"update {training.done}/{training.updates}: {shown} ({time.monotonic() - started:.0f} s)")
        if stop:
            return
    training.save(out)


def training_options(updates: int, learning_rate: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of a training script, with its own defaults."""
    out = click.Path(file_okay=False, path_type=Path)
    options = [
        click.option("--out", type=out, required=True, help="Folder of state and weights."),
        click.option("--updates", default=updates, show_default=True, help="Length of the whole schedule."),
        click.option("--minutes", type=float, help="Stop after this time; the same command goes on later."),
        click.option("--batch-size", default=16, show_default=True, help="Scenes an update."),
        click.option("--learning-rate", default=learning_rate, show_default=True),
        click.option("--seed", default=0, show_default=True),
        click.option("--device", default="cpu", show_default=True),
        click.option("--workers", default=1, show_default=True, help="Processes that draw scenes."),
    ]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    write(temporary)
    os.replace(temporary, path)
