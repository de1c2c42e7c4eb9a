"""Train the tiny SAM from scratch on Shapes scenes: `python -m sb3_alignsam.perception.tiny.pretrain --out FOLDER`.

Each update sees new scenes. The image is encoded once for several targets; each target gets a first click (three
candidate masks), a random number of further clicks without gradient, and a last one with gradient, the previous
logits fed back as in inference (Segment Anything, appendix A, shortened). Stopped at any time, the same command goes
on from the last state in FOLDER. `tiny_sam.safetensors` holds the moving average of the weights.
"""

from __future__ import annotations

import copy
import math
import os
import time
from dataclasses import fields
from pathlib import Path

import click
import numpy as np
import torch as th
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from sb3_alignsam.perception.tiny.losses import DenseHeads, mask_loss
from sb3_alignsam.perception.tiny.model import PIXEL_MEAN, PIXEL_STD, TinySam
from sb3_alignsam.perception.tiny.targets import Batch, TargetStream, clicked_parts, user_clicks

STRAY_CLICKS = 0.06
WARMUP_UPDATES = 100
AVERAGE_DECAY = 0.998
SAVE_EVERY = 100


class Pretraining:
    """Model, moving average, optimiser and the number of updates done; all of it goes into `state.pt`."""

    def __init__(self, seed: int, updates: int, learning_rate: float, device: str) -> None:
        th.manual_seed(seed)
        self.updates, self.learning_rate, self.seed, self.device = updates, learning_rate, seed, device
        self.model = TinySam()
        self.model.decoder.reset_parameters()
        self.model.to(device).to(memory_format=th.channels_last)
        self.average = copy.deepcopy(self.model).eval()
        self.heads = DenseHeads().to(device)
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        decayed = [p for p in parameters if p.ndim > 1]
        plain = [p for p in parameters if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = th.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
        self.done = 0

    def update(self, batch: Batch) -> dict[str, float]:
        """One optimiser step on one batch; returns the figures to show."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * self._schedule()
        batch = Batch(*(getattr(batch, field.name).to(self.device) for field in fields(Batch)))
        self.model.train()
        embeddings = self.model.encoder(normalise(batch.images, batch.valid))
        dense = self.heads.loss(embeddings, batch)
        first, last, score = self._clicks(embeddings, batch.parts.flatten(0, 1))
        self.optimizer.zero_grad(set_to_none=True)
        (first + last + dense).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.done += 1
        self._update_average()
        return {"first": first.item(), "last": last.item(), "dense": dense.item(), "iou": score}

    def _clicks(self, embeddings: th.Tensor, parts: th.Tensor) -> tuple[th.Tensor, th.Tensor, float]:
        """Losses after the first and after the last click, and the mean IoU after the last."""
        rng = np.random.default_rng((self.seed, self.done, 1))
        each = embeddings.repeat_interleave(len(parts) // len(embeddings), 0)
        target = parts.any(dim=1)
        truth = target.cpu().numpy()
        points, labels = self._next_clicks(rng, truth, np.zeros_like(truth), STRAY_CLICKS / 3)
        low_res, iou = self.model.decoder(each, points, labels, None, True)
        first = mask_loss(low_res, clicked_parts(parts, points, labels), iou, target)
        previous = low_res.detach().take_along_dim(iou.argmax(dim=1)[:, None, None, None], dim=1)
        middle = int(rng.choice(4, p=[0.35, 0.3, 0.2, 0.15]))
        for index in range(middle + 1):
            more = self._next_clicks(rng, truth, (previous[:, 0] > 0).cpu().numpy(), STRAY_CLICKS)
            points, labels = th.cat([points, more[0]], dim=1), th.cat([labels, more[1]], dim=1)
            with th.set_grad_enabled(index == middle):
                low_res, iou = self.model.decoder(each, points, labels, previous, False)
            previous = low_res.detach()
        last = mask_loss(low_res, clicked_parts(parts, points, labels), iou, target)
        mask = previous[:, 0] > 0
        score = (mask & target).sum((1, 2)) / (mask | target).sum((1, 2)).clamp(min=1)
        return first, last, score.mean().item()

    def _next_clicks(
        self, rng: np.random.Generator, truth: np.ndarray, masks: np.ndarray, stray: float
    ) -> tuple[th.Tensor, th.Tensor]:
        points, labels = user_clicks(rng, truth, masks, stray)
        return th.from_numpy(points)[:, None].to(self.device), th.from_numpy(labels)[:, None].to(self.device)

    def _schedule(self) -> float:
        if self.done < WARMUP_UPDATES:
            return (self.done + 1) / WARMUP_UPDATES
        progress = (self.done - WARMUP_UPDATES) / max(self.updates - WARMUP_UPDATES, 1)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))

    @th.no_grad()
    def _update_average(self) -> None:
        decay = min(AVERAGE_DECAY, (self.done + 1) / (self.done + 10))
        for mean, value in zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    def save(self, folder: Path) -> None:
        """Write `state.pt` and `tiny_sam.safetensors`, each by renaming a finished file."""
        state = {name: getattr(self, name).state_dict() for name in ("model", "average", "heads", "optimizer")}
        th.save({**state, "done": self.done, "updates": self.updates}, folder / "state.tmp")
        os.replace(folder / "state.tmp", folder / "state.pt")
        weights = {key: value.contiguous().cpu() for key, value in self.average.state_dict().items()}
        save_file(weights, folder / "weights.tmp")
        os.replace(folder / "weights.tmp", folder / "tiny_sam.safetensors")

    def restore(self, folder: Path) -> None:
        """Go on from `state.pt` where there is one."""
        if (folder / "state.pt").exists():
            state = th.load(folder / "state.pt", map_location=self.device, weights_only=True)
            for name in ("model", "average", "heads", "optimizer"):
                getattr(self, name).load_state_dict(state[name])
            self.done = state["done"]


def normalise(images: th.Tensor, valid: th.Tensor) -> th.Tensor:
    """Pixels as SAM's encoder takes them, padding zero after normalising.

    :param images: (B, 256, 256, 3) uint8. :param valid: (B, 2) height and width that are not padding.
    :return: (B, 3, 256, 256) float32, channels last.
    """
    pixels = (images.float() - th.tensor(PIXEL_MEAN, device=images.device)) / th.tensor(PIXEL_STD, device=images.device)
    side = th.arange(images.shape[1], device=images.device)
    inside = (side < valid[:, :1])[:, :, None] & (side < valid[:, 1:])[:, None, :]
    return (pixels * inside[..., None]).permute(0, 3, 1, 2)


@click.command()
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of state and weights."
)
@click.option("--updates", default=3000, show_default=True, help="Length of the whole schedule.")
@click.option("--minutes", default=None, type=float, help="Stop after this time; the same command goes on later.")
@click.option("--batch-size", default=16, show_default=True, help="Scenes an update.")
@click.option("--learning-rate", default=2e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--workers", default=1, show_default=True, help="Processes that draw scenes.")
def main(
    out: Path, updates: int, minutes: float | None, batch_size: int, learning_rate: float, seed: int, device: str,
    workers: int,
) -> None:  # fmt: skip
    """Train the tiny SAM on Shapes scenes."""
    out.mkdir(parents=True, exist_ok=True)
    run = Pretraining(seed, updates, learning_rate, device)
    run.restore(out)
    stream = TargetStream(seed, run.done, updates, batch_size)
    loader = DataLoader(stream, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
    started = time.monotonic()
    bar = tqdm(loader, total=updates, initial=run.done, disable=None, unit="update")
    recent: dict[str, float] = {}
    for batch in bar:
        figures = run.update(batch)
        recent = {key: 0.98 * recent.get(key, value) + 0.02 * value for key, value in figures.items()}
        bar.set_postfix({key: f"{value:.3f}" for key, value in recent.items()})
        stop = minutes is not None and time.monotonic() - started > 60 * minutes
        if run.done % SAVE_EVERY == 0 or stop:
            run.save(out)
            shown = " ".join(f"{key} {value:.3f}" for key, value in recent.items())
            click.echo(f"update {run.done}/{updates}: {shown} ({time.monotonic() - started:.0f} s)")
        if stop:
            return
    run.save(out)


if __name__ == "__main__":
    main()
