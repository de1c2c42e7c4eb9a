"""Train the tiny SAM from scratch on Shapes scenes: `python -m sb3_alignsam.perception.tiny.pretrain --out FOLDER`.

Each update sees new scenes. The image is encoded once for several targets; each target gets a first click (three
candidate masks), a random number of further clicks without gradient, and a last one with gradient, the previous
logits fed back as in inference (Segment Anything, appendix A, shortened). Stopped at any time, the same command goes
on from the last state in FOLDER. `tiny_sam.safetensors` holds the moving average of the weights.
"""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch as th

from sb3_alignsam.perception.tiny.averaged_training import AveragedTraining, run_training, training_options
from sb3_alignsam.perception.tiny.losses import DenseHeads, mask_loss
from sb3_alignsam.perception.tiny.model import PIXEL_MEAN, PIXEL_STD, TinySam
from sb3_alignsam.perception.tiny.targets import Batch, TargetStream, clicked_parts, user_clicks

STRAY_CLICKS = 0.06


class Pretraining(AveragedTraining):
    """The tiny SAM with its dense heads, which are dropped afterwards."""

    model: TinySam
    helpers: DenseHeads
    name = "tiny_sam"
    warmup_updates = 100
    average_decay = 0.998

    def __init__(self, seed: int, updates: int, learning_rate: float, device: str) -> None:
        th.manual_seed(seed)
        model = TinySam()
        model.decoder.reset_parameters()
        super().__init__(model.to(memory_format=th.channels_last), DenseHeads(), updates, learning_rate, device)
        self.seed = seed

    def loss(self, batch: Batch) -> tuple[th.Tensor, dict[str, float]]:
        """See `AveragedTraining.loss`."""
        batch = Batch(*(getattr(batch, field.name).to(self.device) for field in fields(Batch)))
        embeddings = self.model.encoder(normalise(batch.images, batch.valid))
        dense = self.helpers.loss(embeddings, batch)
        first, last, score = self._clicks(embeddings, batch.parts.flatten(0, 1))
        figures = {"first": first.item(), "last": last.item(), "dense": dense.item(), "iou": score}
        return first + last + dense, figures

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
@training_options(updates=3000, learning_rate=2e-3)
def main(
    out: Path, updates: int, minutes: float | None, batch_size: int, learning_rate: float, seed: int, device: str,
    workers: int,
) -> None:  # fmt: skip
    """Train the tiny SAM on Shapes scenes."""
    stream = partial(TargetStream, seed, stop=updates, batch_size=batch_size)
    run_training(Pretraining(seed, updates, learning_rate, device), stream, out, minutes, workers)


if __name__ == "__main__":
    main()
