"""The agent as an MLflow model: what ``mlflow.pyfunc.load_model`` and ``mlflow models serve`` load.

MLflow keeps this module's name and a copy of a zip; the zip is read as everywhere in this package, without unpickling.
"""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from PIL import Image

from sb3_alignsam.datasets.photographs import read_upright_stream
from sb3_alignsam.errors import InputError
from sb3_alignsam.inference.annotator import Annotator


class ClickModel:
    """Photographs and category names in, masks out.

    :param path: a zip that `train` wrote.
    """

    def __init__(self, path: Path) -> None:
        self.annotator = Annotator(path, env_kwargs={"cache": False})
        self._lock = threading.Lock()  # a server may ask from several threads

    def predict(self, model_input: pd.DataFrame) -> pd.DataFrame:
        """Play one episode for each row.

        :param model_input: columns ``image``, the bytes of an image file (Base64 in JSON), and ``category``.
        :return: columns ``mask``, the bytes of a PNG file of the image's size, 255 inside and 0 outside, and ``score``,
            the predicted IoU.
        :raises MlflowException: an image or a category cannot be used; a server answers with status 400.
        """
        with self._lock:
            try:
                rows = [self._answer(each.image, each.category) for each in model_input.itertuples(index=False)]
            except InputError as error:
                raise MlflowException.invalid_parameter_value(str(error)) from error
        return pd.DataFrame(rows, columns=["mask", "score"])

    def _answer(self, image: bytes, category: str) -> tuple[bytes, float]:
        result = self.annotator.segment(read_upright_stream(io.BytesIO(image), "image"), category)
        buffer = io.BytesIO()
        Image.fromarray(np.where(result.mask, np.uint8(255), np.uint8(0))).save(buffer, "PNG")
        return buffer.getvalue(), float(result.score)


def _load_pyfunc(data_path: str) -> ClickModel:
    """Called by MLflow with where it put the zip."""
    path = Path(data_path)
    return ClickModel(path if path.is_file() else next(path.glob("*.zip")))
