"""Features extractors and policies for SB3 and sb3-contrib, and the rules they are compared with."""

from sb3_alignsam.policies.click_policy import ClickPolicy, ImplicitPolicy, MaskableClickPolicy, MaskableImplicitPolicy
from sb3_alignsam.policies.features import ClickFeaturesExtractor
from sb3_alignsam.policies.implicit import ImplicitExtractor

__all__ = [
    "ClickFeaturesExtractor",
    "ClickPolicy",
    "ImplicitExtractor",
    "ImplicitPolicy",
    "MaskableClickPolicy",
    "MaskableImplicitPolicy",
]
