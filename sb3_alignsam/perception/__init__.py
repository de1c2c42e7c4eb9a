"""Frozen networks. Nothing here knows of reinforcement learning."""

from sb3_alignsam.perception.cache import FeatureCache
from sb3_alignsam.perception.clicks import Click, Clicks, oracle_click
from sb3_alignsam.perception.clip_surgery import ClipSurgery
from sb3_alignsam.perception.loading import SEGMENTERS, load_segmenter, shared_segmenter
from sb3_alignsam.perception.segmenter import Masks, Segmenter
from sb3_alignsam.perception.similarity import SimilarityMaps
from sb3_alignsam.perception.text_models import load_text_model, shared_text_model

__all__ = [
    "SEGMENTERS",
    "Click",
    "Clicks",
    "ClipSurgery",
    "FeatureCache",
    "Masks",
    "Segmenter",
    "SimilarityMaps",
    "load_segmenter",
    "load_text_model",
    "oracle_click",
    "shared_segmenter",
    "shared_text_model",
]
