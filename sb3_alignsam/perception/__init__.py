"""Frozen networks. Nothing here knows of reinforcement learning."""

from sb3_alignsam.perception.clicks import Click, Clicks, oracle_click
from sb3_alignsam.perception.loading import SEGMENTERS, load_segmenter, shared_segmenter
from sb3_alignsam.perception.segmenter import Masks, Segmenter

__all__ = ["SEGMENTERS", "Click", "Clicks", "Masks", "Segmenter", "load_segmenter", "oracle_click", "shared_segmenter"]
