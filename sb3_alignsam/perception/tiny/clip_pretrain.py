"""Train the tiny CLIP on Shapes scenes and captions: `python -m sb3_alignsam.perception.tiny.clip_pretrain --out DIR`.

Each update sees new scenes. Every image token is compared with sentences on all categories and on the background, and
learns what its cell shows; the CLS token learns the caption of its scene among those of the batch (Radford et al.,
"Learning Transferable Visual Models from Natural Language Supervision", ICML 2021, section 2.3). Both are read from the
paths that CLIP Surgery reads, so the maps are what is trained. The stem starts from the tiny SAM's encoder. Stopped at
any time, the same command goes on from the last state in DIR.
"""

from __future__ import annotations

import copy
import math
import os
import time
from pathlib import Path

import click
import torch as th
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm

from sb3_alignsam.perception.clip_prompts import tokenize
from sb3_alignsam.perception.clip_surgery import dual_path_tokens, encode_texts
from sb3_alignsam.perception.loading import TINY_WEIGHTS
from sb3_alignsam.perception.similarity import clip_pixels
from sb3_alignsam.perception.tiny.clip_model import CONTEXT, tiny_clip, tiny_tokenizer
from sb3_alignsam.perception.tiny.clip_targets import CaptionedBatch, CaptionStream
from sb3_alignsam.perception.tiny.encoder import TinyEncoder

CAPTION_WEIGHT = 0.1
WARMUP_UPDATES = 50
AVERAGE_DECAY = 0.995
SAVE_EVERY = 100


class ClipPretraining:
    """Model, moving average, optimiser and the number of updates done; all of it goes into `clip_state.pt`."""

    def __init__(self, seed: int, updates: int, learning_rate: float, device: str) -> None:
        th.manual_seed(seed)
        self.updates, self.learning_rate, self.device = updates, learning_rate, device
        self.model = tiny_clip()
        stem = self.model.vision_model.embeddings.patch_embedding
        stem.encoder = trained_encoder()
        self.model.to(device)
        self.average = copy.deepcopy(self.model).eval()
        self.tokenizer = tiny_tokenizer()
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        plain = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.02}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = th.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
        self.done = 0

    def update(self, batch: CaptionedBatch) -> dict[str, float]:
        """One optimiser step on one batch; returns the figures to show."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * self._schedule()
        self.model.train()
        tokens = dual_path_tokens(self.model, clip_pixels(batch.images.to(self.device)))
        names, captions = self._texts(batch.names), self._texts(batch.captions)
        scale = self.model.logit_scale.exp()
        shares = batch.shares.to(self.device).flatten(1, 2)
        logits = scale * tokens[:, 1:] @ names.T
        dense = F.cross_entropy(logits.flatten(0, 1), shares.flatten(0, 1))
        same = batch.same.to(self.device).float()
        pairs = scale * tokens[:, 0] @ captions.T
        wanted = same / same.sum(1, keepdim=True)
        caption = (F.cross_entropy(pairs, wanted) + F.cross_entropy(pairs.T, wanted)) / 2
        self.optimizer.zero_grad(set_to_none=True)
        (dense + CAPTION_WEIGHT * caption).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with th.no_grad():
            self.model.logit_scale.clamp_(max=math.log(100))
        self.done += 1
        self._update_average()
        on_object = shares.argmax(-1) < shares.shape[-1] - 1
        right = (logits.argmax(-1) == shares.argmax(-1))[on_object].float().mean()
        return {"dense": dense.item(), "caption": caption.item(), "objects": right.item()}

    def _texts(self, sentences: list[str]) -> th.Tensor:
        return encode_texts(self.model, tokenize(self.tokenizer, sentences, CONTEXT).to(self.device))

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
        """Write `clip_state.pt` and `tiny_clip.safetensors` (float16), each by renaming a finished file."""
        state = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimizer")}
        th.save({**state, "done": self.done}, folder / "clip_state.tmp")
        os.replace(folder / "clip_state.tmp", folder / "clip_state.pt")
        weights = {key: _half(value) for key, value in self.average.state_dict().items()}
        save_file(weights, folder / "clip_weights.tmp")
        os.replace(folder / "clip_weights.tmp", folder / "tiny_clip.safetensors")

    def restore(self, folder: Path) -> None:
        """Go on from `clip_state.pt` where there is one."""
        if (folder / "clip_state.pt").exists():
            state = th.load(folder / "clip_state.pt", map_location=self.device, weights_only=True)
            for name in ("model", "average", "optimizer"):
                getattr(self, name).load_state_dict(state[name])
            self.done = state["done"]


def trained_encoder() -> TinyEncoder:
    """The tiny SAM's encoder, fused, with gradients."""
    encoder = TinyEncoder()
    sam = {key.removeprefix("encoder."): value for key, value in load_file(TINY_WEIGHTS).items()}
    encoder.load_state_dict({key: sam[key] for key in encoder.state_dict()})
    encoder.eval()
    encoder.fuse()
    return encoder


def _half(value: th.Tensor) -> th.Tensor:
    """Half the size; what it costs is far below what training leaves to be wished for."""
    return value.to(th.float16 if value.is_floating_point() else value.dtype).contiguous().cpu()


@click.command()
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of state and weights."
)
@click.option("--updates", default=3500, show_default=True, help="Length of the whole schedule.")
@click.option("--minutes", default=None, type=float, help="Stop after this time; the same command goes on later.")
@click.option("--batch-size", default=16, show_default=True, help="Scenes an update.")
@click.option("--learning-rate", default=1e-3, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--workers", default=1, show_default=True, help="Processes that draw scenes.")
def main(
    out: Path, updates: int, minutes: float | None, batch_size: int, learning_rate: float, seed: int, device: str,
    workers: int,
) -> None:  # fmt: skip
    """Train the tiny CLIP on Shapes scenes and captions."""
    out.mkdir(parents=True, exist_ok=True)
    run = ClipPretraining(seed, updates, learning_rate, device)
    run.restore(out)
    stream = CaptionStream(seed, run.done, updates, batch_size)
    loader = DataLoader(stream, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)
    started = time.monotonic()
    bar = tqdm(loader, total=updates, initial=run.done, disable=None, unit="update")
    recent: dict[str, float] = {}
    for batch in bar:
        figures = run.update(batch)
        recent = {key: 0.95 * recent.get(key, value) + 0.05 * value for key, value in figures.items()}
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
