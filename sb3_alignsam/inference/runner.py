"""Segments photographs with an exported agent: python runner.py IMAGE CATEGORY [MASK.png]

A reference, to read and to build on. It lies in the folder of the exported graphs and needs numpy, opencv and
onnxruntime (or torch, for graphs of torch.export), none of sb3-alignsam. `agent.json` tells all that is no weight.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

Graph = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
"""Takes those that it needs of arrays by name; gives arrays by name."""


class Runner:
    """An exported agent. :param folder: of the export. :param threads: of each graph; 0: all cores."""

    def __init__(self, folder: str | Path, threads: int = 0) -> None:
        self.about = json.loads((Path(folder) / "agent.json").read_text(encoding="utf-8"))
        load = load_onnx if self.about["format"] == "onnx" else load_torch
        graphs = self.about["graphs"].items()
        self.graphs = {name: load(Path(folder) / each["file"], each, threads) for name, each in graphs}

    def segment(self, image: np.ndarray, category: str) -> tuple[np.ndarray, float, list[tuple[int, int, bool]]]:
        """Play one episode on a photograph, (H, W, 3) uint8 RGB.

        Returns the mask, (H, W) bool, its predicted IoU, and the clicks (x, y, positive) in pixels.
        """
        about, clicks, score = self.about, list[tuple[int, int, bool]](), 0.0
        if category not in about["categories"]:
            raise ValueError(f"category '{category}' is not known; known: {', '.join(about['categories'])}")
        # Each graph takes its inputs out of what is known by name, and its outputs join that.
        known = {"shapes": np.array([image.shape[:2]]), "target_category": np.array([about["categories"][category]])}
        for graph, size, multiple in about["images"]:
            known |= self.graphs[graph](known | {"images": fit(image, size, multiple)})
        cells = known["sam_image_embeddings"].shape[2:]
        known["sam_pred_mask_prob"] = np.full((1, 1, *cells), 0.5, np.float32)
        known["excluded_mask"] = np.zeros((1, 1, *cells), np.float32)
        known["click_map"] = np.zeros((1, 2, about["num_patches"], about["num_patches"]), np.uint8)
        known["low_res"] = answer = np.full((1, 1, 4 * cells[0], 4 * cells[1]), about["mask_threshold"], np.float32)
        for step in range(about["max_steps"]):
            known |= self.graphs["policy"](known | {"num_steps": np.array([step])})
            if known["action"][0] == about["stop_action"]:
                break
            if not known["placed"][0]:  # without effect, but it uses up a click
                continue
            clicks.append((int(known["point"][0, 0]), int(known["point"][0, 1]), bool(known["label"][0])))
            known["points"] = np.array([[click[:2] for click in clicks]], np.float32)
            known["labels"] = np.array([[int(click[2]) for click in clicks]])
            known |= {"previous": known["low_res"], "refining": np.array([len(clicks) > 1])}
            known |= self.graphs["sam_decoder"](known)
            known["click_map"] = known["next_click_map"]
            if len(clicks) == 1 or about["answer"] == "last" or known["predicted_iou"][0] >= score:
                answer, score = known["low_res"], float(known["predicted_iou"][0])
        return enlarge(answer[0, 0], image.shape[:2], about["image_size"]) > about["mask_threshold"], score, clicks


def fit(image: np.ndarray, size: int, multiple: int) -> np.ndarray:
    """An image with its longest side scaled to `size`, padded at the right and below to multiples; (1, h, w, 3)."""
    height, width = resized_shape(image.shape[:2], size)
    below, right = -height % multiple, -width % multiple
    return cv2.copyMakeBorder(resize(image, height, width), 0, below, 0, right, cv2.BORDER_CONSTANT)[None]


def resized_shape(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Height and width of an image whose longest side is scaled to `size`."""
    return tuple(max(int(each * (size / max(shape)) + 0.5), 1) for each in shape)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale an image as Pillow does: antialiased bilinear, columns first, each rounded to 8 bits, (H, W, 3) uint8."""
    for size in (width, height):
        lines = cv2.transpose(image)  # twice; whole lines are read faster than their pixels
        shape, length = (size, *lines.shape[1:]), len(lines)
        scale = max(length / size, 1.0)
        centre = (np.arange(size) + 0.5) * (length / size)
        first, end = (centre - scale + 0.5).astype(int).clip(0), (centre + scale + 0.5).astype(int).clip(max=length)
        places = first + np.arange((end - first).max())[:, None]
        weights = (1 - abs((places - centre + 0.5) * (1 / scale))).clip(0) * (places < end)
        weights = (weights * (1 / weights.sum(axis=0)) * 2**22 + 0.5).astype(np.int32)[..., None]
        lines, places = lines.reshape(length, -1), places.clip(max=length - 1)
        sums = [  # of so few lines that they stay in the processor's cache
            sum(lines[place[i : i + 32]] * weight[i : i + 32] for place, weight in zip(places, weights, strict=True))
            for i in range(0, size, 32)
        ]
        image = np.concatenate([(each + 2**21 >> 22).astype(np.uint8) for each in sums]).reshape(shape)
    return image


def enlarge(low_res: np.ndarray, shape: tuple[int, ...], size: int) -> np.ndarray:
    """Logits on SAM's low-resolution square at the image's size, (H, W)."""
    scale, (height, width) = size // len(low_res), resized_shape(shape, size)
    seen = low_res[: height // scale + 2, : width // scale + 2]
    square = cv2.resize(seen, (scale * seen.shape[1], scale * seen.shape[0]), interpolation=cv2.INTER_LINEAR)
    return cv2.resize(square[:height, :width], shape[::-1], interpolation=cv2.INTER_LINEAR)


def load_onnx(path: Path, about: dict, threads: int) -> Graph:
    """Reads a graph that was exported. :param about: what `agent.json` says of it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    run, names = onnxruntime.InferenceSession(str(path), options).run, about["outputs"]
    return lambda known: dict(zip(names, run(names, {name: known[name] for name in about["inputs"]}), strict=True))


def load_torch(path: Path, about: dict, threads: int) -> Graph:
    """As `load_onnx`."""
    import torch

    torch.set_num_threads(threads or torch.get_num_threads())
    graph = torch.export.load(str(path)).module()

    def call(known: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            found = graph(*(torch.from_numpy(known[name]) for name in about["inputs"]))
        return {name: each.numpy() for name, each in zip(about["outputs"], found, strict=True)}

    return call


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    picture = cv2.imread(sys.argv[1])
    if picture is None:
        sys.exit(f"{sys.argv[1]} cannot be read as an image")
    agent = Runner(Path(__file__).parent)
    found, predicted_iou, placed = agent.segment(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), sys.argv[2])
    print(f"predicted IoU {predicted_iou:.3f}, {int(found.sum())} pixels, clicks {placed}")
    if len(sys.argv) == 4:
        cv2.imwrite(sys.argv[3], np.where(found, 255, 0).astype(np.uint8))
