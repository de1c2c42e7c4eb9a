"""Segments photographs with an exported agent: python runner.py IMAGE CATEGORY [MASK.png]

A reference, to read and to build on. It lies in the folder of the exported graphs and needs only numpy, opencv and
onnxruntime (or torch, for graphs of torch.export); none of sb3-alignsam. `agent.json` tells all that is not a weight.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

Graph = Callable[..., Any]
"""Arrays by name to a list of arrays."""


class Runner:
    """An exported agent. :param folder: of the export. :param threads: of each graph; 0: all cores."""

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        self.about = json.loads((Path(folder) / "agent.json").read_text(encoding="utf-8"))
        self.side, self.grid = self.about["image_size"], self.about["num_patches"]
        load = load_onnx if self.about["format"] == "onnx" else load_torch
        graphs = self.about["graphs"]
        self.graphs = {name: load(Path(folder) / each["file"], each, threads) for name, each in graphs.items()}
        texts = self.about["text_model"]
        self.texts = {name: np.array(row, np.float32) for name, row in texts["features"].items()} if texts else {}

    def segment(self, image: np.ndarray, category: str) -> tuple[np.ndarray, float, list[tuple[int, int, bool]]]:
        """Play one episode on a photograph, (H, W, 3) uint8 RGB.

        Returns the mask, (H, W) bool, its predicted IoU, and the clicks (x, y, positive) in pixels.
        """
        vocabulary, known = self.about["categories"], self.about["can_find"]
        if category not in known:
            raise ValueError(f"category '{category}' is not known; known: {', '.join(known)}")
        shape, resized = image.shape[:2], resized_shape(image.shape[:2], self.side)
        pixels = np.zeros((self.side, self.side, 3), np.float32)
        mean, std = (np.array(self.about[key], np.float32) for key in ("pixel_mean", "pixel_std"))
        pixels[: resized[0], : resized[1]] = (resize(image, *resized) - mean) / std
        (embedding,) = self.graphs["sam_encoder"](pixels=pixels.transpose(2, 0, 1)[None])
        cells = embedding.shape[-1]
        low_res, probability = np.zeros((1, 1, 4 * cells, 4 * cells), np.float32), np.full((1, cells, cells), 0.5)
        state: dict[str, Any] = {"sam_image_embeddings": embedding[0], "excluded_mask": np.zeros((1, cells, cells))}
        state["target_category"] = vocabulary.index(category) if category in vocabulary else 0
        if self.texts:
            state |= self.look(image, category, cells)
        valid, columns, rows = self.patches(shape, resized)
        clicked, clicks = np.zeros((2, self.grid, self.grid), np.uint8), list[tuple[int, int, bool]]()
        answer, score = None, 0.0
        for step in range(self.about["max_steps"]):
            state |= {"sam_pred_mask_prob": probability, "click_map": clicked, "num_steps": step}
            free = valid & ~clicked.any(axis=0)
            mask = np.repeat((free if free.any() else valid).ravel(), 2)
            state["action_mask"] = mask = np.append(mask, True) if self.about["allow_stop"] else mask
            kinds = self.about["graphs"]["policy"]["inputs"]
            action = int(self.graphs["policy"](**{k: np.array(state[k], kinds[k])[None] for k in kinds})[0][0])
            if action == 2 * self.grid**2:  # the agent stops
                break
            if not mask[action]:  # without effect, but it uses up a click
                continue
            (row, column), negative = divmod(action // 2, self.grid), action % 2
            clicks.append((int(columns[column]), int(rows[row]), not negative))
            clicked[negative, row, column] = 1
            # The clicks on SAM's square: each axis has a scale of its own, since the resized sides are rounded.
            points = np.array([click[:2] for click in clicks], np.float32)
            points *= np.array([resized[1] / shape[1], resized[0] / shape[0]], np.float32)
            low_res, iou = self.graphs["sam_decoder"](
                embeddings=embedding, points=points[None], previous=low_res, refining=np.array([len(clicks) > 1]),
                labels=np.array([[int(click[2]) for click in clicks]]),
            )  # fmt: skip
            blocks = 1 / (1 + np.exp(-low_res[0, 0].reshape(cells, 4, cells, 4)))
            probability = blocks.mean(axis=(1, 3), dtype=np.float32)[None]
            if len(clicks) == 1 or self.about["answer"] == "last" or iou[0] >= score:
                answer, score = low_res[0, 0], float(iou[0])
        if answer is None:
            return np.zeros(shape, bool), score, clicks
        return self.enlarge(answer, shape, resized) > self.about["mask_threshold"], score, clicks

    def patches(self, shape: tuple[int, ...], resized: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which patches can be clicked, (G, G) bool, and the pixels that they are clicked at: columns and rows."""
        places, axes = np.arange(self.grid), list[Any]()
        for length, new in zip(shape, resized, strict=True):
            pixels = ((places + 0.5) * (self.side / self.grid) * length / new).astype(int)
            back = ((pixels + 0.5) * new / length * self.grid / self.side).astype(int)
            valid = (pixels < length) & (back == places)
            valid[0] |= not valid.any()  # a picture so thin that no centre lies on it
            pixels[0] = min(pixels[0], length - 1)
            axes.append((valid, pixels))
        return axes[0][0][:, None] & axes[1][0], axes[1][1], axes[0][1]

    def enlarge(self, low_res: np.ndarray, shape: tuple[int, ...], resized: tuple[int, ...]) -> np.ndarray:
        """Logits on SAM's low-resolution square at the image's size, (H, W)."""
        scale = self.side // len(low_res)
        seen = low_res[: resized[0] // scale + 2, : resized[1] // scale + 2]
        square = cv2.resize(seen, (scale * seen.shape[1], scale * seen.shape[0]), interpolation=cv2.INTER_LINEAR)
        return cv2.resize(square[: resized[0], : resized[1]], shape[::-1], interpolation=cv2.INTER_LINEAR)

    def look(self, image: np.ndarray, category: str, cells: int) -> dict[str, np.ndarray]:
        """What CLIP sees, on SAM's square: the category's map of CLIP Surgery and the strongest other one's, (2, cells,
        cells); its tokens, (D, s, s), s patches a side; and the category's text, (D,)."""
        clip = self.about["text_model"]
        patch, size, shape = clip["patch_size"], clip["map_size"], resized_shape(image.shape[:2], clip["map_size"])
        grid = [-(-side // patch) for side in shape]
        pixels = np.zeros((patch * grid[0], patch * grid[1], 3), np.float32)
        mean, std = (np.array(clip[key], np.float32) for key in ("pixel_mean", "pixel_std"))
        pixels[: shape[0], : shape[1]] = (resize(image, *shape) - mean) / std
        tokens = self.graphs["clip_tokens"](pixels=pixels.transpose(2, 0, 1)[None])[0][0].astype(np.float32)
        others = [self.texts[name] for name in self.about["categories"] if name != category]
        texts = np.stack([self.texts[category], *others])
        likeness = tokens @ texts.T
        weight = np.exp(2 * likeness[0]) / np.exp(2 * likeness[0]).sum() * len(texts)
        scores = (weight * likeness - (weight * likeness).mean(axis=1, keepdims=True))[1:]
        if len(texts) == 1:  # nothing to compare with but what every text shares
            scores = tokens[1:] @ (texts - np.array(clip["redundant"], np.float32)).T
        low, spread = scores[:, 0].min(), np.ptp(scores[:, 0])
        rival = scores[:, 1:].max(axis=1) if others else np.full(len(scores), low)
        both = np.stack([scores[:, 0] - low, (rival - low).clip(0, spread)], axis=-1) / (spread or 1)
        edge = [(0, size // patch - side) for side in grid]
        square = np.pad(both.reshape(*grid, 2), [*edge, (0, 0)], mode="edge").astype(np.float32)
        maps = cv2.resize(square, (cells, cells), interpolation=cv2.INTER_LINEAR)
        inside = [(np.arange(cells) + 0.5) * size / cells < side for side in shape]
        inside[0][0] = inside[1][0] = True
        maps = (maps * (inside[0][:, None] & inside[1])[..., None]).transpose(2, 0, 1)
        token_map = np.zeros((tokens.shape[1], size // patch, size // patch), np.float32)
        token_map[:, : grid[0], : grid[1]] = tokens[1:].T.reshape(-1, *grid)
        return {"clip_similarity": maps, "clip_tokens": token_map, "clip_text": self.texts[category]}


def resized_shape(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Height and width of an image whose longest side is scaled to `size`."""
    return tuple(max(int(each * (size / max(shape)) + 0.5), 1) for each in shape)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale an image as Pillow does: antialiased bilinear, columns first, each rounded to 8 bits, (H, W, 3) uint8."""
    for size in (width, height):
        image = cv2.transpose(image)  # twice; whole lines are read faster than their pixels
        length = len(image)
        if length == size:
            continue
        scale = max(length / size, 1.0)
        centre = (np.arange(size) + 0.5) * (length / size)
        first, end = (centre - scale + 0.5).astype(int).clip(0), (centre + scale + 0.5).astype(int).clip(max=length)
        total: Any = 2**21
        places = first + np.arange((end - first).max())[:, None]
        weights = (1 - abs((places - centre + 0.5) * (1 / scale))).clip(0) * (places < end)
        weights = (weights * (1 / weights.sum(axis=0)) * 2**22 + 0.5).astype(np.int32)
        for place, weight in zip(places.clip(max=length - 1), weights, strict=True):
            total += image.take(place, axis=0) * weight[:, None, None]
        image = (total >> 22).clip(0, 255).astype(np.uint8)
    return image


def load_onnx(path: Path, about: dict, threads: int) -> Graph:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options)
    return lambda **inputs: session.run(about["outputs"], inputs)


def load_torch(path: Path, about: dict, threads: int) -> Graph:
    import torch

    torch.set_num_threads(threads or torch.get_num_threads())
    graph = torch.export.load(str(path)).module()

    def call(**inputs: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [each.numpy() for each in graph(*(torch.from_numpy(inputs[name]) for name in about["inputs"]))]

    return call


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    picture = cv2.imread(sys.argv[1])
    if picture is None:
        sys.exit(f"{sys.argv[1]} cannot be read as an image")
    found, predicted_iou, placed = Runner(Path(__file__).parent).segment(
        cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), sys.argv[2]
    )
    print(f"predicted IoU {predicted_iou:.3f}, {int(found.sum())} pixels, clicks {placed}")
    if len(sys.argv) == 4:
        cv2.imwrite(sys.argv[3], np.where(found, 255, 0).astype(np.uint8))
