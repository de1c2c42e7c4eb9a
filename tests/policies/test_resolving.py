from __future__ import annotations

import pytest
from torch import nn

from sb3_alignsam.errors import InputError
from sb3_alignsam.policies import ImplicitExtractor
from sb3_alignsam.policies.resolving import resolve_name, resolve_policy_kwargs


def test_names_under_the_allowed_modules_are_found():
    assert resolve_name("nn.ReLU") is resolve_name("torch.nn.ReLU") is nn.ReLU
    assert resolve_name("sb3_alignsam.policies.ImplicitExtractor") is ImplicitExtractor


@pytest.mark.parametrize(
    "name", ["os.system", "builtins.eval", "torch.load", "sb3_alignsamx.y", "nn.", "nn.Nothing", "nn.init.normal_"]
)
def test_other_names_are_refused(name):
    with pytest.raises(InputError, match="name '"):
        resolve_name(name)


def test_only_dotted_words_are_resolved():
    kwargs = resolve_policy_kwargs({"activation_fn": "nn.Tanh", "channels": 8, "word": "plain"})
    assert kwargs == {"activation_fn": nn.Tanh, "channels": 8, "word": "plain"}
