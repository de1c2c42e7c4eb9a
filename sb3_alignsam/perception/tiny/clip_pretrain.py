"""Train the tiny CLIP on Shapes scenes and captions: `python -m sb3_alignsam.perception.tiny.clip_pretrain --out DIR`.

Each update sees new scenes. Every image token is compared with sentences on all categories and on the background, and
learns what its cell shows; the CLS token learns the caption of its scene among those of the batch (Radford et al.,
"Learning Transferable Visual Models from Natural Language Supervision", ICML 2021, section 2.3). Both are read from the
paths that CLIP Surgery reads, so the maps are what is trained. The stem starts from the tiny SAM's encoder, or all
of it from trained weights (``--weights``; with another ``--seed`` it sees other scenes). Stopped at any time, the same
command goes on from the last state in DIR.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import click
import torch as th
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from transformers import CLIPModel

from sb3_alignsam.errors import InputError
from sb3_alignsam.perception.clip_prompts import tokenize
from sb3_alignsam.perception.clip_surgery import dual_path_tokens, encode_texts
from sb3_alignsam.perception.loading import TINY_WEIGHTS
from sb3_alignsam.perception.similarity import clip_pixels
from sb3_alignsam.perception.tiny.averaged_training import AveragedTraining, run_training, training_options
from sb3_alignsam.perception.tiny.clip_model import CONTEXT, tiny_clip, tiny_tokenizer
from sb3_alignsam.perception.tiny.clip_targets import CaptionedBatch, CaptionStream
from sb3_alignsam.perception.tiny.encoder import TinyEncoder

CAPTION_WEIGHT = 0.1
MAX_SCALE = 100.0
"""Most that similarities are multiplied by, as in CLIP (section 2.5)."""


class ClipPretraining(AveragedTraining):
    """The tiny CLIP; the weights are stored as float16."""

    model: CLIPModel
    name = "tiny_clip"
    warmup_updates = 50
    average_decay = 0.995

    def __init__(self, seed: int, updates: int, learning_rate: float, device: str) -> None:
        th.manual_seed(seed)
        model = tiny_clip()
        model.vision_model.embeddings.patch_embedding.encoder = trained_encoder()
        super().__init__(model, nn.Identity(), updates, learning_rate, device)
        self.tokenizer = tiny_tokenizer()

    def start_from(self, weights: Path) -> None:
        """Take over trained weights, such as those that ship with the package; the schedule begins anew.

        :raises InputError: the file cannot be read, or is of another network.
        """
        try:
            values = load_file(weights)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{weights} cannot be read as safetensors ({error}); name a tiny_clip.safetensors"
            ) from error
        for model in (self.model, self.average):
            try:
                model.load_state_dict(values)
            except RuntimeError as error:
                raise InputError(f"{weights} holds no tiny CLIP; name a tiny_clip.safetensors") from error

    def loss(self, batch: CaptionedBatch) -> tuple[th.Tensor, dict[str, float]]:
        """See `AveragedTraining.loss`."""
        tokens = dual_path_tokens(self.model, clip_pixels(batch.images.to(self.device)))
        names, captions = self._texts(batch.names), self._texts(batch.captions)
        scale = self.model.logit_scale.clamp(max=math.log(MAX_SCALE)).exp()
        shares = batch.shares.to(self.device).flatten(1, 2)
        logits = scale * tokens[:, 1:] @ names.T
        dense = F.cross_entropy(logits.flatten(0, 1), shares.flatten(0, 1))
        same = batch.same.to(self.device).float()
        pairs = scale * tokens[:, 0] @ captions.T
        wanted = same / same.sum(1, keepdim=True)
        caption = (F.cross_entropy(pairs, wanted) + F.cross_entropy(pairs.T, wanted)) / 2
        on_object = shares.argmax(-1) < shares.shape[-1] - 1
        right = (logits.argmax(-1) == shares.argmax(-1))[on_object].float().mean()
        figures = {"dense": dense.item(), "caption": caption.item(), "objects": right.item()}
        return dense + CAPTION_WEIGHT * caption, figures

    def stored(self, value: th.Tensor) -> th.Tensor:
        """Half the size; what it costs is far below what training leaves to be wished for."""
        return value.to(th.float16) if value.is_floating_point() else value

    def _texts(self, sentences: list[str]) -> th.Tensor:
        return encode_texts(self.model, tokenize(self.tokenizer, sentences, CONTEXT).to(self.device))


def trained_encoder() -> TinyEncoder:
    """The tiny SAM's encoder, fused, with gradients."""
    encoder = TinyEncoder()
    sam = {key.removeprefix("encoder."): value for key, value in load_file(TINY_WEIGHTS).items()}
    encoder.load_state_dict({key: sam[key] for key in encoder.state_dict()})
    encoder.eval()
    encoder.fuse()
    return encoder


@click.command()
@training_options(updates=3500, learning_rate=1e-3)
@click.option(
    "--weights", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Begin with these, see --seed too."
)
def main(
    out: Path, updates: int, minutes: float | None, batch_size: int, learning_rate: float, seed: int, device: str,
    workers: int, weights: Path | None,
) -> None:  # fmt: skip
    """Train the tiny CLIP on Shapes scenes and captions."""
    stream = partial(CaptionStream, seed, stop=updates, batch_size=batch_size)
    training = ClipPretraining(seed, updates, learning_rate, device)
    if weights is not None:
        try:
            training.start_from(weights)
        except InputError as error:
            raise click.BadParameter(str(error), param_hint="'--weights'") from error
    run_training(training, stream, out, minutes, workers)


if __name__ == "__main__":
    main()
