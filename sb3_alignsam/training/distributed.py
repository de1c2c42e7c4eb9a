"""The ranks of a run: the processes that ``torchrun`` has started for it, and what they tell one another."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import torch as th
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from sb3_alignsam.errors import InputError, RunError

TIMEOUT = timedelta(hours=1)
"""How long a rank waits for the others, as while the first one evaluates. One that has died is noticed at once."""
BUCKET_BYTES = 25 * 2**20
"""Gradients travel in buckets of about this size; PyTorch's `DistributedDataParallel` has the same default."""
_AWAKE_SECONDS = 0.02
"""How long a rank that waits keeps its core awake, see `Ranks.end_sum`."""
_stand_back = getattr(os, "sched_yield", lambda: time.sleep(0))  # Windows has no such call
_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class RankError(RunError):
    """Another rank does not answer."""


@dataclass(frozen=True)
class Sending:
    """A sum on its way. :param work: torch's handle. :param on_processor: whether the values lie there."""

    work: Any
    on_processor: bool


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run. A run of one process is one of one rank: then nothing is ever sent.

    What takes part of all ranks has to be called by all of them, in the same order.

    :param rank: of this process, from 0. :param size: how many there are.
    :param local_rank: of this process among those of its machine. :param local_size: how many there are on it.
    :raises RankError: (each method) another rank has ended, or does not answer within `TIMEOUT`.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def leader(self) -> bool:
        """Whether this is the rank that writes, evaluates and reports."""
        return self.rank == 0

    @property
    def command(self) -> str:
        """How `sb3-alignsam` is called on as many ranks."""
        if self.size == 1:
            return "sb3-alignsam"
        nodes = self.size // self.local_size
        several = f" --nnodes {nodes}" if nodes > 1 else ""
        return f"torchrun{several} --nproc-per-node {self.local_size} -m sb3_alignsam"

    def part(self, total: int) -> range:
        """This rank's part of so many, which the number of ranks divides: the first ones are the leader's.

        :raises InputError: it does not.
        """
        if total % self.size:
            raise InputError(f"{self.size} ranks cannot have {total} evenly")
        each = total // self.size
        return range(self.rank * each, (self.rank + 1) * each)

    def broadcast(self, value: Any) -> Any:
        """The leader's value, on every rank; what the others give is of no account."""
        if self.size == 1:
            return value
        box = [value]
        with _answering():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, by rank, on the leader; nothing on the others."""
        if self.size == 1:
            return [value]
        found: list[Any] | None = [None] * self.size if self.leader else None
        with _answering():
            dist.gather_object(value, found, dst=0)
        return found or []

    def all(self, value: bool) -> bool:
        """Whether it is true on every rank."""
        return bool(self.sum(th.tensor([float(value)])).item() == self.size)

    def sum(self, values: th.Tensor) -> th.Tensor:
        """The sum over all ranks, the same bits on each; `values` is used up."""
        self.end_sum(self.begin_sum(values))
        return values

    def begin_sum(self, values: th.Tensor) -> Sending | None:
        """Begin to replace values by their sum over all ranks, see `end_sum`; they must be left alone until then."""
        if self.size == 1:
            return None
        with _answering():
            return Sending(dist.all_reduce(values, async_op=True), values.device.type == "cpu")

    def end_sum(self, sending: Sending | None) -> None:
        """Wait for a sum that was begun.

        To sleep and be woken up can take longer than the message, on a virtual machine a millisecond: so the core stays
        awake for as long as ranks that compute alike let one another wait.
        """
        if sending is None:
            return
        with _answering():
            end = time.perf_counter() + _AWAKE_SECONDS
            while sending.on_processor and time.perf_counter() < end and not sending.work.is_completed():
                _stand_back()
            sending.work.wait()

    def average_gradients(
        self,
        parameters: Iterable[th.nn.Parameter],
        weight: float,
        beside: th.Tensor,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> th.Tensor:
        """Make every parameter's gradient the weighted mean over all ranks, the same bits on each.

        :param weight: of this rank's gradients; those of all ranks sum to 1.
        :param beside: other values, (N,), which travel with the first bucket: each message is a wait for the slowest.
        :param meanwhile: is called while the messages are on their way.
        :return: their sum, (N,) of the gradients' type.
        """
        found = beside
        sent: list[tuple[list[th.nn.Parameter], int, th.Tensor, Sending | None]] = []
        for bucket in _buckets([each for each in parameters if each.requires_grad]):
            # A parameter without a gradient here may have one elsewhere, and all ranks have to send as much.
            gradients = [th.zeros_like(each) if each.grad is None else each.grad for each in bucket]
            others = beside if not sent else beside[:0]
            flat = th.cat([others.to(gradients[0]), *(each.reshape(-1) for each in gradients)])
            flat[len(others) :].mul_(weight)
            sent.append((bucket, len(others), flat, self.begin_sum(flat)))
        meanwhile()
        for bucket, size, flat, sending in sent:
            self.end_sum(sending)
            first, *means = flat.split([size, *(each.numel() for each in bucket)])
            found = first if size else found
            for parameter, mean in zip(bucket, means, strict=True):
                parameter.grad = mean.view_as(parameter)
        return found

    def in_places(self, values: th.Tensor) -> th.Tensor:
        """Values (K,) float64 for a sum of float32 that keeps 48 bits of each: every rank's in places of its own, two a
        value, (2 * size * K,); see `of_places`."""
        places = values.new_zeros(2, self.size, len(values))
        places[0, self.rank] = values.float().double()
        places[1, self.rank] = values - places[0, self.rank]
        return places.float().flatten()

    def of_places(self, summed: th.Tensor) -> th.Tensor:
        """The sum over all ranks, (K,) float64, of what each has put `in_places`."""
        return summed.double().view(2, self.size, -1).sum(dim=(0, 1))

    def share_weights(self, module: th.nn.Module) -> None:
        """Give every rank the leader's parameters and buffers."""
        if self.size > 1:
            with _answering(), th.no_grad():
                for tensor in module.state_dict().values():
                    dist.broadcast(tensor, src=0)

    def check_weights(self, module: th.nn.Module) -> None:
        """:raises RunError: the ranks' weights are not the same, bit for bit."""
        if self.size == 1:
            return
        digest = hashlib.sha256()
        for tensor in module.state_dict().values():
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        own = th.tensor(list(digest.digest()[:8]), dtype=th.float64)
        if not (own * self.size == self.sum(own.clone())).all():
            raise RunError("the ranks' weights have come to differ: are their packages and machines the same?")


ALONE = Ranks()


@contextmanager
def joined(timeout: timedelta = TIMEOUT) -> Iterator[Ranks]:
    """Join the other ranks, if ``torchrun`` or the like has started any, while the block lasts.

    On a machine with a GPU for each of its ranks they talk by NCCL of what lies there, else by gloo, and ``cuda`` means
    the GPU of one's own.

    :param timeout: how long a rank waits for the others.
    :raises RankError: they do not come.
    """
    if not all(os.environ.get(name) for name in _VARIABLES) or int(os.environ["WORLD_SIZE"]) == 1:
        yield ALONE
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    ranks = Ranks(rank, size, int(os.environ.get("LOCAL_RANK", rank)), int(os.environ.get("LOCAL_WORLD_SIZE", size)))
    gpus = th.cuda.device_count() if th.cuda.is_available() else 0
    if gpus:
        th.cuda.set_device(ranks.local_rank % gpus)
    with _answering():
        found, _, _ = next(rendezvous("env://", timeout=timeout))
        store = dist.PrefixStore(_name_of_attempt(found, rank, size), found)
        backend = "cpu:gloo,cuda:nccl" if gpus >= ranks.local_size else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    yield ranks
    # Not behind an error: another rank may have ended, and NCCL would wait for it.
    dist.destroy_process_group()


def launch() -> str | None:
    """What the processes that one ``torchrun`` starts have in common, also those that it starts again; None: no
    ``torchrun`` has started this one."""
    run_id = os.environ.get("TORCHELASTIC_RUN_ID")
    if run_id is None:
        return None
    # Without a rendezvous all runs have one name, and all ranks of a machine one parent.
    return f"{socket.gethostname()} {os.getppid()}" if run_id == "none" else run_id


def was_restarted() -> bool:
    """Whether ``torchrun --max-restarts`` has started this process in place of one that had ended."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def begins_launch() -> bool:
    """Whether this is the leader, or becomes it in `joined`, and ``torchrun`` has started it for the first time."""
    return os.environ.get("RANK") == "0" and not was_restarted()


def _name_of_attempt(store: dist.Store, rank: int, size: int) -> str:
    """A name that the leader gives to those that are there now.

    The store of ``torchrun`` outlives the processes that it starts again, and still says at which addresses they were:
    those of a new attempt that come early would look for their predecessors.
    """
    own = uuid4().hex
    if rank:
        store.set(f"asks {rank}", own)
        name = str(store.get(f"answer to {own}").decode())
        store.set(f"{name} heard {rank}", "")
        return name
    for other in range(1, size):
        # What a predecessor has asked may come first; it hears nothing any more.
        while not store.check([f"{own} heard {other}"]):
            store.set(f"answer to {store.get(f'asks {other}').decode()}", own)
            time.sleep(0.02)
    return own


@contextmanager
def _answering() -> Iterator[None]:
    """Tell what torch says of other ranks in one line."""
    try:
        yield
    except RuntimeError as error:
        raise RankError("another rank of this run has ended, or does not answer") from error


def _buckets(parameters: list[th.nn.Parameter]) -> Iterator[list[th.nn.Parameter]]:
    """Parameters in their order, those of one bucket of one type and on one device."""
    bucket: list[th.nn.Parameter] = []
    for each in parameters:
        size = sum(other.numel() * other.element_size() for other in bucket)
        if bucket and (
            (each.dtype, each.device) != (bucket[0].dtype, bucket[0].device)
            or size + each.numel() * each.element_size() > BUCKET_BYTES
        ):
            yield bucket
            bucket = []
        bucket.append(each)
    if bucket:
        yield bucket
