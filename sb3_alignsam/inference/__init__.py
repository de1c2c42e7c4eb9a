"""Trained agents on photographs that nobody has annotated."""

from sb3_alignsam.inference.annotator import Annotator, PlacedClick, Result

__all__ = ["Annotator", "PlacedClick", "Result"]
