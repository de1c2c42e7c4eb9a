"""Callbacks for anybody's SB3 script, each useful alone."""

from sb3_alignsam.callbacks.checkpoint import CheckpointCallback
from sb3_alignsam.callbacks.evaluation import EvaluationCallback
from sb3_alignsam.callbacks.maps import SimilarityPicturesCallback
from sb3_alignsam.callbacks.metrics import ClickMetricsCallback
from sb3_alignsam.callbacks.mlflow import MlflowCallback
from sb3_alignsam.callbacks.sampling import SamplingCallback
from sb3_alignsam.callbacks.strips import EpisodeStripsCallback
from sb3_alignsam.callbacks.video import VideoCallback

__all__ = [
    "CheckpointCallback",
    "ClickMetricsCallback",
    "EpisodeStripsCallback",
    "EvaluationCallback",
    "MlflowCallback",
    "SamplingCallback",
    "SimilarityPicturesCallback",
    "VideoCallback",
]
