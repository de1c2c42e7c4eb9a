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
    decoder_graph,
    encoder_graph,
    policy_graph,
    tokens_graph,
)
from sb3_alignsam.perception.segmenter import MASK_THRESHOLD
from sb3_alignsam.perception.similarity import CLIP_MEAN, CLIP_STD, SimilarityMaps
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
            graphs = _write_graphs(annotator, Path(temporary), kind, half, done)
            about = _describe(annotator, kind, half, categories, graphs)
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
    annotator: Annotator, folder: Path, kind: str, half: bool, done: Callable[[str], object]
) -> list[tuple[Graph, ExportedGraph]]:
    dtype = th.float16 if half else th.float32
    env = annotator.env
    graphs = [_reading_policy(annotator), encoder_graph(env.segmenter, dtype), decoder_graph(env.segmenter, dtype)]
    if env.features.text_model is not None and not graphs[0].dynamic.keys().isdisjoint(TEXT_KEYS):
        graphs.append(tokens_graph(env.features.text_model, dtype))
    written = []
    for graph in graphs:
        path = folder / f"{graph.name}{FORMATS[kind]}"
        program = trace(graph)
        if kind == "onnx":
            with warnings.catch_warnings(action="ignore"):
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
    maskable = is_maskable(annotator.description)
    policy = annotator.agent.policy_for(annotator.env, leave_out=RUN_SETTINGS)
    assert isinstance(policy, ActorCriticPolicy | MaskableActorCriticPolicy)
    keys = annotator.env.observations.keys
    program = trace(policy_graph(policy, maskable, keys))
    used = {node.name for node in program.graph.nodes if node.op == "placeholder" and node.users}
    read = [key for key, name in zip(keys, program.graph_signature.user_inputs, strict=False) if name in used]
    for key in read:
        if key not in READABLE:
            raise InputError(f"{annotator.zip_path} reads the observation '{key}', which cannot be exported")
    return policy_graph(policy, maskable, read)


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
        found = call(**{name: value.numpy() for name, value in inputs.items()})
        for name, ours, theirs in zip(graph.outputs, expected, found, strict=True):
            if ours.shape != theirs.shape:
                raise RunError(f"{graph.name}: '{name}' has the shape {theirs.shape} instead of {ours.shape}")
            if ours.dtype.kind == "f":
                scale = max(float(abs(ours).max()), 1e-6)
                worst = max(worst, float(abs(ours.astype(np.float32) - theirs.astype(np.float32)).max()) / scale)
    if tolerance is not None and not worst <= tolerance:
        raise RunError(f"{graph.name}: the exported graph differs from the network by {worst:.2g} of its largest value")
    return worst


def _describe(
    annotator: Annotator,
    kind: str,
    half: bool,
    categories: Sequence[str],
    graphs: Sequence[tuple[Graph, ExportedGraph]],
) -> dict[str, Any]:
    """All that a runner has to know and that is no weight, in plain values."""
    env, maps = annotator.env, annotator.env.features.maps
    mean, std = env.segmenter.pixel_statistics
    has_maps = any(graph.name == "clip_tokens" for graph, _ in graphs)
    return {
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
        "categories": list(env.dataset.categories),
        "can_find": _can_find(annotator, categories),
        "target": env.target,
        "image_size": env.segmenter.image_size,
        "pixel_mean": mean.tolist(),
        "pixel_std": std.tolist(),
        "num_patches": env.grid.num_patches,
        "allow_stop": env.grid.allow_stop,
        "max_steps": env.max_steps,
        "answer": env.answer_rule,
        "mask_threshold": MASK_THRESHOLD,
        "text_model": _describe_text_model(maps, categories) if maps is not None and has_maps else None,
        "graphs": {graph.name: _describe_graph(graph, exported.path) for graph, exported in graphs},
    }


def _can_find(annotator: Annotator, categories: Sequence[str]) -> list[str]:
    """Names that the exported agent can be asked for."""
    names = annotator.categories if annotator.reads_category else (*annotator.env.dataset.categories, *categories)
    return list(dict.fromkeys(names))


def _describe_text_model(maps: SimilarityMaps, categories: Sequence[str]) -> dict[str, Any]:
    clip, names = maps.clip, list(dict.fromkeys((*maps.categories, *categories)))
    return {
        "weights_sha256": clip.weights_digest,
        "pixel_mean": list(CLIP_MEAN),
        "pixel_std": list(CLIP_STD),
        "map_size": clip.map_size,
        "patch_size": clip.patch_size,
        "features": {name: maps.text_features(name).tolist() for name in names},
        "redundant": clip.prompt_features([""])[0].tolist(),
    }


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
