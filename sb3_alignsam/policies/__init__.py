"""Features extractors and policies for SB3 and sb3-contrib, and the rules they are compared with."""

from sb3_alignsam.policies.click_policy import (
    ClickPolicy,
    ExplicitPolicy,
    ImplicitPolicy,
    MaskableClickPolicy,
    MaskableExplicitPolicy,
    MaskableImplicitPolicy,
)
from sb3_alignsam.policies.explicit import ExplicitExtractor
from sb3_alignsam.policies.features import ClickFeaturesExtractor
from sb3_alignsam.policies.implicit import ImplicitExtractor

__all__ = [
    "ClickFeaturesExtractor",
    "ClickPolicy",
    "ExplicitExtractor",
    "ExplicitPolicy",
    "ImplicitExtractor",
    "ImplicitPolicy",
    "MaskableClickPolicy",
    "MaskableExplicitPolicy",
    "MaskableImplicitPolicy",
]
