"""One photograph, one category: the answer as files."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sb3_alignsam.evaluation.report import check_writable
from sb3_alignsam.inference.annotator import Result
from sb3_alignsam.inference.click_files import DIGITS, click_entry
from sb3_alignsam.inference.files import as_json, write_whole
from sb3_alignsam.inference.pictures import draw_answer


@dataclass(frozen=True)
class PredictionFiles:
    """Where an answer goes. :param mask: PNG, 255 inside and 0 outside. :param overlay: PNG for people.
    :param clicks: JSON, which `read_clicks` takes."""

    mask: Path
    overlay: Path
    clicks: Path

    @classmethod
    def of(cls, folder: Path, image: str, category: str) -> PredictionFiles:
        """Files named after the image and the category.

        :raises InputError: they cannot be written.
        """
        # A category's name is a user's own text and may hold what no file name can.
        slug = re.sub(r"[^\w-]+", "-", category)[:60]
        name = f"{Path(image).stem}_{slug}"
        files = cls(*(folder / f"{name}_{kind}" for kind in ("mask.png", "overlay.png", "clicks.json")))
        for path in (files.mask, files.overlay, files.clicks):
            check_writable(path)
        return files

    def write(self, image_name: str, image: np.ndarray, category: str, result: Result) -> None:
        """Write the three files, each whole or not at all; the JSON last.

        :param image_name: as the user wrote it. :param image: (H, W, 3) uint8 RGB.
        :raises InputError: one cannot be written.
        """
        mask = np.where(result.mask, np.uint8(255), np.uint8(0))
        write_whole(self.mask, _png(mask))
        headline = f"{category}   predicted IoU {result.score:.2f}   clicks {len(result.clicks)}"
        clicks = [placed.click for placed in result.clicks]
        write_whole(self.overlay, _png(draw_answer(image, result.mask, clicks, headline)))
        about = {
            "image": image_name,
            "width": image.shape[1],
            "height": image.shape[0],
            "category": category,
            "predicted_iou": round(result.score, DIGITS),
            "area": int(np.count_nonzero(result.mask)),
            "stopped": result.stopped,
            "clicks": [click_entry(placed) for placed in result.clicks],
        }
        write_whole(self.clicks, as_json(about))


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
