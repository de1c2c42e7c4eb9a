"""Train, evaluate and use agents that place clicks for the Segment Anything Model. Importing it registers the envs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_alignsam.registration import register_envs

if TYPE_CHECKING:
    from sb3_alignsam.inference import Annotator

__version__ = (Path(__file__).parent / "version.txt").read_text(encoding="utf-8").strip()

register_envs()

__all__ = ["Annotator", "__version__"]


def __getattr__(name: str) -> Any:
    # Loaded when it is asked for, so that importing the package does not wait for torch.
    if name == "Annotator":
        from sb3_alignsam.inference import Annotator

        return Annotator
    raise AttributeError(f"module 'sb3_alignsam' has no attribute '{name}'")
