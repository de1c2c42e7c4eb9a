"""Images with a target category and its ground truth. Nothing here knows of reinforcement learning."""

from sb3_alignsam.datasets.base import Dataset, Sample
from sb3_alignsam.datasets.coco import CocoDataset
from sb3_alignsam.datasets.shapes import ShapesDataset

__all__ = ["CocoDataset", "Dataset", "Sample", "ShapesDataset"]
