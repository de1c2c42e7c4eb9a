"""How long a photograph takes, from pixels to mask: the whole agent and its networks, by torch and by onnxruntime."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from sb3_contrib import MaskablePPO

from sb3_alignsam.benchmark.perception import IMAGE_SHAPE, SEED, chosen_weights, photograph
from sb3_alignsam.benchmark.spans import Span, seconds_inside, watched
from sb3_alignsam.benchmark.timing import Spread, about_machine, threads, waiting
from sb3_alignsam.envs.making import make_env
from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.inference.export import export_agent
from sb3_alignsam.inference.runner import Runner
from sb3_alignsam.perception import ClipSurgery, Segmenter, load_segmenter
from sb3_alignsam.perception.devices import resolve_device
from sb3_alignsam.perception.frozen_decoder import FrozenDecoder
from sb3_alignsam.policies.loading import POLICY_PREFIX, AgentDescription, policy_class, save_zip

POLICIES = {"implicit": "MaskableImplicitPolicy", "explicit": "MaskableExplicitPolicy"}
BACKENDS = ("torch", "onnxruntime")
ENV_ID = "SamSegShapes-v0"


def benchmark_infer(
    segmenter: str,
    agent: str,
    *,
    repeats: int,
    num_threads: int,
    device: str = "cpu",
    checkpoint: str | None = None,
    step: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Segment photographs, each a new one, with an untrained agent that places all of its clicks.

    `Annotator` and the reference runner of its export take turns. Each network's time is taken within the whole run,
    so that whole and parts are of the same moment.

    :param segmenter: ``tiny`` or ``repvit_sam``. :param agent: ``implicit`` or ``explicit``, with the tiny text model.
    :param repeats: photographs for each. :param num_threads: of torch and of onnxruntime.
    :param device: of torch, as in `load_segmenter`; onnxruntime stays on the processor.
    :param checkpoint: weights of ``repvit_sam``; None: random ones, which take the same time.
    :param step: is called after each photograph.
    :return: plain values; seconds of the whole, of each network's calls in it, and the whole as a multiple of those.
    :raises InputError: a value cannot be used, or the extra ``export`` is missing.
    """
    device = resolve_device(device)
    weights, said = chosen_weights(segmenter, checkpoint)
    with TemporaryDirectory() as name, threads(num_threads):
        folder = Path(name)
        network = load_segmenter(segmenter, weights, device)
        annotator = Annotator(_untrained(folder, agent, network), env_kwargs={"segmenter": network, "device": device})
        export_agent(annotator, folder, "onnx")
        runner = Runner(folder, num_threads)
        category, rng = annotator.categories[0], np.random.default_rng(SEED)
        with ExitStack() as stack:
            networks = {
                "torch": stack.enter_context(_torch_networks(annotator, waiting(device))),
                "onnxruntime": stack.enter_context(_exported_networks(runner)),
            }
            segments: dict[str, Callable[..., object]] = {"torch": annotator.segment, "onnxruntime": runner.segment}
            wholes: dict[str, list[Span]] = {backend: [] for backend in BACKENDS}
            for _ in range(repeats + 1):
                image = photograph(IMAGE_SHAPE)
                image[:8, :8] = rng.integers(0, 256, (8, 8, 3))
                for backend in BACKENDS:
                    start = time.perf_counter()
                    segments[backend](image, category)
                    wholes[backend].append(Span(start, time.perf_counter()))
                step()
            # The first photograph warms up.
            rows = {backend: _row(wholes[backend][1:], networks[backend]) for backend in BACKENDS}
    return {
        "benchmark": "infer",
        **about_machine(device),
        "threads": num_threads,
        "segmenter": segmenter,
        "weights": said,
        "agent": agent,
        "image_shape": list(IMAGE_SHAPE),
        "clicks": annotator.budget,
        "repeats": repeats,
        "rows": rows,
    }


def _untrained(folder: Path, agent: str, segmenter: Segmenter) -> Path:
    """A zip of an agent that was not trained; it has no *stop*, so it places every click."""
    kwargs: dict[str, Any] = {"cache": False, **({"text_model": "tiny"} if agent == "explicit" else {})}
    env, policy = make_env(ENV_ID, {**kwargs, "segmenter": segmenter}), POLICY_PREFIX + POLICIES[agent]
    model = MaskablePPO(cast(Any, policy_class(policy)), env, n_steps=8, batch_size=8, seed=SEED, device="cpu")
    categories, path = list(env.dataset.categories), folder / "agent.zip"
    save_zip(model, path, AgentDescription("maskable_ppo", ENV_ID, kwargs, policy, categories=categories))
    return path


@contextmanager
def _torch_networks(annotator: Annotator, finish: Callable[[], object]) -> Iterator[dict[str, list[Span]]]:
    with (
        watched(annotator.env.segmenter.encoder, "forward", finish) as encoder,
        watched(FrozenDecoder, "__call__", finish) as decoder,
        watched(annotator.policy, "_predict", finish) as policy,
        watched(ClipSurgery, "image_tokens", finish) as tokens,
    ):
        yield {"sam_encoder": encoder, "clip": tokens, "policy": policy, "sam_decoder": decoder}


@contextmanager
def _exported_networks(runner: Runner) -> Iterator[dict[str, list[Span]]]:
    calls = SimpleNamespace(**runner.graphs)
    with ExitStack() as stack:
        spans = {name: stack.enter_context(watched(calls, name)) for name in runner.graphs}
        runner.graphs = vars(calls)
        yield spans


def _row(wholes: list[Span], networks: dict[str, list[Span]]) -> dict[str, Any]:
    inside = {name: [seconds_inside(spans, whole) for whole in wholes] for name, spans in networks.items()}
    seconds = [whole.seconds for whole in wholes]
    sums = [sum(each) for each in zip(*inside.values(), strict=True)]
    return {
        "whole_seconds": _latency(seconds),
        "networks_seconds": {name: _latency(each) for name, each in inside.items() if any(each)},
        "times_networks": Spread(tuple(a / b for a, b in zip(seconds, sums, strict=True))).figures(),
    }


def _latency(seconds: list[float]) -> dict[str, Any]:
    return {**Spread(tuple(seconds)).figures(), "p99": float(np.percentile(seconds, 99))}
