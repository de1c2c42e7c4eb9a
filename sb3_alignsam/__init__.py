"""Train, evaluate and use agents that place clicks for the Segment Anything Model. Importing it registers the envs."""

from pathlib import Path

from sb3_alignsam.registration import register_envs

__version__ = (Path(__file__).parent / "version.txt").read_text(encoding="utf-8").strip()

register_envs()

__all__ = ["__version__"]
