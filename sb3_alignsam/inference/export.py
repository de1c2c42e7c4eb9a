"""An agent as a folder for deployment: a graph for each network, `agent.json` with all that is no weight, and a runner
that needs neither torch nor this package."""

from __future__ import annotations

import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch as th
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy
from torch.export import ExportedProgram

import sb3_alignsam
from sb3_alignsam.envs.observations import TEXT_KEYS
from sb3_alignsam.errors import InputError, RunError
from sb3_alignsam.inference import runner
from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.inference.files import as_json
from sb3_alignsam.inference.graphs import (
    CHECKED_AT,
    TRACED_AT,
    Graph,
    clip_graph,
    decoder_graph,
    encoder_graph,
    policy_graph,
)
from sb3_alignsam.perception.segmenter import MASK_THRESHOLD
from sb3_alignsam.perception.similarity import CLIP_MEAN, CLIP_STD
from sb3_alignsam.policies.loading import is_maskable

FORMATS = {"onnx": ".onnx", "torch_export": ".pt2"}
"""Formats, and what their files' names end with."""
DESCRIPTION, RUNNER = "agent.json", "runner.py"
RUN_SETTINGS = ("autocast", "compiled", "checkpointing", "keep_maps")
"""Of `policy_kwargs`: how a policy is run, and no part of what it computes."""
READABLE = (
    "sam_image_embeddings", *TEXT_KEYS, "target_category", "sam_pred_mask_prob", "click_map", "excluded_mask",
    "num_steps",
)  # fmt: skip
"""Observations that the runner makes."""
TOLERANCE = 2e-3
"""Largest difference between a graph and its module, as a share of the largest value; rounding to float16 has 5e-4."""


@dataclass(frozen=True)
class ExportedGraph:
    """One file. :param path: where it lies. :param size: in bytes. :param difference: the largest from its module, as a
    share of the largest value, over `CHECKED_AT`."""

    path: Path
    size: int
    difference: float


def export_agent(
    annotator: Annotator,
    folder: Path,
    kind: str,
    *,
    half: bool = False,
    categories: Sequence[str] = (),
    done: Callable[[str], object] = lambda name: None,
) -> list[ExportedGraph]:
    """Write a folder with an agent's graphs, each compared with its module at several sizes; `agent.json` comes last.

    :param annotator: the agent. :param folder: is made where it is missing; files of the same names are replaced.
    :param kind: of `FORMATS`. :param half: the frozen networks in float16; the policy is float32 in any case.
    :param categories: that can be asked for beside those of training, by an agent that does not read the category.
    :param done: is told each graph's name.
    :raises InputError: the folder or a category cannot be used, a package is missing, or the agent reads what the
        runner does not make. :raises RunError: a graph does not compute what its module does.
    """
    if kind == "onnx" and not all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")):
        raise InputError("--format onnx needs the extra 'export': pip install 'sb3-alignsam[export]'")
    for name in categories:
        annotator.check_category(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".") as temporary:
            names = _names(annotator, categories)
            graphs = _write_graphs(annotator, names, Path(temporary), kind, half, done)
            about = _describe(annotator, names, kind, half, graphs)
            (Path(temporary) / DESCRIPTION).write_bytes(as_json(about))
            shutil.copyfile(runner.__file__, Path(temporary) / RUNNER)
            # Without its description a folder is of no use, so half of an old export is never taken for a whole one.
            (folder / DESCRIPTION).unlink(missing_ok=True)
            for file in (*(exported.path.name for _, exported in graphs), RUNNER, DESCRIPTION):
                os.replace(Path(temporary) / file, folder / file)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); choose another folder") from error
    return [ExportedGraph(folder / each.path.name, each.size, each.difference) for _, each in graphs]


def _write_graphs(
    annotator: Annotator, names: Sequence[str], folder: Path, kind: str, half: bool, done: Callable[[str], object]
) -> list[tuple[Graph, ExportedGraph]]:
    dtype = th.float16 if half else th.float32
    segmenter, maps = annotator.env.segmenter, annotator.env.features.maps
    graphs = [_reading_policy(annotator), encoder_graph(segmenter, dtype), decoder_graph(segmenter, dtype)]
    keys = [key for key in TEXT_KEYS if key in graphs[0].dynamic]
    if maps is not None and keys:
        graphs.append(clip_graph(maps, names, keys, segmenter.embedding_shape[1], dtype))
    written = []
    for graph in graphs:
        path = folder / f"{graph.name}{FORMATS[kind]}"
        program = trace(graph)
        with warnings.catch_warnings(action="ignore"):
            if kind == "onnx":
                names = list(graph.dynamic)
                exported = th.onnx.export(
                    program, dynamo=True, input_names=names, output_names=list(graph.outputs), verbose=False
                )
                assert exported is not None
                exported.save(path)
            else:
                th.export.save(program, path)
        # The policy is of float32 in any case. Of float16 the rounding differs from one library to the next.
        tolerance = None if half and graph is not graphs[0] else TOLERANCE
        written.append((graph, ExportedGraph(path, path.stat().st_size, _check(graph, path, kind, tolerance))))
        done(graph.name)
    return written


def trace(graph: Graph) -> ExportedProgram:
    """A graph's module as torch's exported program, for any size of its dynamic dimensions."""
    inputs = graph.inputs(*TRACED_AT)
    shapes: Any = tuple(graph.dynamic[name] for name in inputs)
    if graph.name == "policy":
        shapes = (shapes,)  # all of them are one parameter
    with th.no_grad(), warnings.catch_warnings(action="ignore"):
        return th.export.export(graph.module, tuple(inputs.values()), dynamic_shapes=shapes)


def _reading_policy(annotator: Annotator) -> Graph:
    """The policy's graph with the observations that it reads, and no others.

    :raises InputError: the runner does not make one of them.
    """
    maskable, env = is_maskable(annotator.description), annotator.env
    policy = annotator.agent.policy_for(env, leave_out=RUN_SETTINGS)
    assert isinstance(policy, ActorCriticPolicy | MaskableActorCriticPolicy)
    keys = env.observations.keys
    graph = policy_graph(policy, env.grid, keys, maskable)
    program = trace(graph)
    used = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    names = zip(graph.dynamic, program.graph_signature.user_inputs, strict=True)
    read = [key for key, name in names if key in keys and name in used]
    for key in read:
        if key not in READABLE:
            raise InputError(f"{annotator.zip_path} reads the observation '{key}', which cannot be exported")
    return policy_graph(policy, env.grid, read, maskable)


def _check(graph: Graph, path: Path, kind: str, tolerance: float | None) -> float:
    """Compare a written graph with its module at every size of `CHECKED_AT`; the largest difference.

    :raises RunError: it is above the tolerance.
    """
    load = runner.load_onnx if kind == "onnx" else runner.load_torch
    call = load(path, {"inputs": list(graph.dynamic), "outputs": list(graph.outputs)}, th.get_num_threads())
    worst = 0.0
    for size in CHECKED_AT:
        inputs = graph.inputs(*size)
        with th.inference_mode():
            expected = [each.numpy() for each in graph.module(*inputs.values())]
        found = call({name: value.numpy() for name, value in inputs.items()})
        # Between two actions rounding may decide; what follows from the same action is the same.
        agree = [row for row in range(size[0]) if "action" not in found or found["action"][row] == expected[0][row]]
        for (name, theirs), ours in zip(found.items(), expected, strict=True):
            if ours.shape != theirs.shape:
                raise RunError(f"{graph.name}: '{name}' has the shape {theirs.shape} instead of {ours.shape}")
            if ours.dtype.kind == "f":
                scale = max(float(abs(ours).max()), 1e-6)
                worst = max(worst, float(abs(ours.astype(np.float32) - theirs.astype(np.float32)).max()) / scale)
            elif not np.array_equal(ours[agree], theirs[agree]):
                raise RunError(f"{graph.name}: '{name}' of the exported graph differs from the network's")
    if tolerance is not None and not worst <= tolerance:
        raise RunError(f"{graph.name}: the exported graph differs from the network by {worst:.2g} of its largest value")
    return worst


def _describe(
    annotator: Annotator, names: Sequence[str], kind: str, half: bool, graphs: Sequence[tuple[Graph, ExportedGraph]]
) -> dict[str, Any]:
    """All that a runner has to know and that is no weight, in plain values."""
    env, clip = annotator.env, annotator.env.features.text_model
    mean, std = env.segmenter.pixel_statistics
    networks = {graph.name: _describe_graph(graph, exported.path) for graph, exported in graphs}
    images = [["sam_encoder", env.segmenter.image_size, env.segmenter.image_size]]
    about: dict[str, Any] = {
        "sb3_alignsam": sb3_alignsam.__version__,
        "torch": th.__version__,
        "format": kind,
        "precision": "float16" if half else "float32",
        "agent": {
            "zip_sha256": hashlib.sha256(annotator.zip_path.read_bytes()).hexdigest(),
            "policy": annotator.description.policy,
            "num_timesteps": annotator.description.num_timesteps,
        },
        "segmenter": {"name": env.segmenter.name, "weights_sha256": env.segmenter.weights_digest},
        "pixel_mean": mean.tolist(),
        "pixel_std": std.tolist(),
        "categories": {name: names.index(name) for name in _can_find(annotator, names)},
        "target": env.target,
        "image_size": env.segmenter.image_size,
        "num_patches": env.grid.num_patches,
        "stop_action": env.grid.stop_action,
        "max_steps": env.max_steps,
        "answer": env.answer_rule,
        "mask_threshold": MASK_THRESHOLD,
    }
    if clip is not None and "clip" in networks:
        images.append(["clip", clip.map_size, clip.patch_size])
        about["text_model"] = {"weights_sha256": clip.weights_digest, "pixel_mean": CLIP_MEAN, "pixel_std": CLIP_STD}
    return about | {"images": images, "graphs": networks}


def _names(annotator: Annotator, categories: Sequence[str]) -> list[str]:
    """The vocabulary, in the order of the `target_category` observation, and others behind it."""
    return list(dict.fromkeys((*annotator.env.dataset.categories, *categories)))


def _can_find(annotator: Annotator, names: Sequence[str]) -> Sequence[str]:
    """Names that the exported agent can be asked for."""
    return annotator.categories if annotator.reads_category else names


def _describe_graph(graph: Graph, path: Path) -> Mapping[str, Any]:
    inputs = graph.inputs(*TRACED_AT)
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "inputs": {name: str(value.numpy().dtype) for name, value in inputs.items()},
        "shapes": {
            name: [None if axis in graph.dynamic[name] else size for axis, size in enumerate(value.shape)]
            for name, value in inputs.items()
        },
        "outputs": list(graph.outputs),
    }
