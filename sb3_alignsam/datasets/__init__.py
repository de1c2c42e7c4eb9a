"""Images with a target category and its ground truth. Nothing here knows of reinforcement learning."""

from sb3_alignsam.datasets.ade20k import Ade20kDataset
from sb3_alignsam.datasets.base import Dataset, Sample
from sb3_alignsam.datasets.cityscapes import CityscapesDataset
from sb3_alignsam.datasets.coco import CocoDataset
from sb3_alignsam.datasets.sampling import Sampler
from sb3_alignsam.datasets.shapes import ShapesDataset

__all__ = ["Ade20kDataset", "CityscapesDataset", "CocoDataset", "Dataset", "Sample", "Sampler", "ShapesDataset"]
