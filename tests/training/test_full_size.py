"""The whole path at full size, on weights drawn from a seed: no checkpoint is at hand."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from safetensors.numpy import save_file

from tests.conftest import REPOSITORY
from tests.perception.seeded import fill


@pytest.mark.long
def test_repvit_sam_trains_on_photographs(coco_mini, tmp_path):
    shapes = json.loads((REPOSITORY / "third_party/repvit_sam/repvit_sam_state_dict_shapes.json").read_text())
    checkpoint = tmp_path / "repvit_sam.safetensors"
    save_file(fill(shapes, 0), checkpoint)
    command = [sys.executable, "-m", "sb3_alignsam", "train", "--env", "SamSegCoco-v0", "-n", "64", "-f", str(tmp_path)]
    command += ["--track", "none"]
    command += ["-params", "n_envs:2", "n_steps:32", "batch_size:32", "--eval-freq", "0", "--device", "cpu"]
    command += ["--env-kwargs", f"root:{coco_mini}", "split:train2017", "segmenter:repvit_sam"]
    command += [f"checkpoint:{checkpoint}"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    assert (tmp_path / "ppo" / "SamSegCoco-v0_1" / "SamSegCoco-v0.zip").is_file()
