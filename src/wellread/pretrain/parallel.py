"""Data-parallel training: what the processes of a group say to each other, and nothing else.

Every process holds the whole model and reads its own share of each step's samples.  Gradients are added up in
buckets while the backward pass still runs; everything after that (norm, clipping, optimiser) is the same
arithmetic on the same numbers in every process, so all of them stay equal to the bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from wellread.errors import UserError

# Large enough that a message's fixed costs vanish, small enough that the first leaves early.
BUCKET_BYTES = 8 << 20
CONTINUE = "run the same command again; it goes on from the last checkpoint, with any number of processes"


class LostPeerError(UserError):
    """Another process of the group has ended or does not answer."""


@dataclass(frozen=True)
class Group:
    """The processes that train one model together; by default a single one, for which all of this is nothing.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Add up each of some numbers over all processes, in float64."""
        return self.begin_sum(*values)()

    def begin_sum(self, *values: float) -> Callable[[], list[float]]:
        """As :meth:`sum`, while other work goes on: call the result to wait for the sums."""
        if self.size == 1:
            return lambda: list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        with lost_peer():
            work = dist.all_reduce(tensor, async_op=True)

        def wait() -> list[float]:
            with lost_peer():
                work.wait()
            return tensor.tolist()

        return wait

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Rank 0 goes through the block before the others enter it, so that they find its files."""
        if not self.main:
            self.barrier()
        yield
        if self.main:
            self.barrier()

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.sum(0.0)


SOLO = Group()


def join(rank: int, size: int, local_rank: int, timeout: timedelta, **place: Any) -> Group:
    """Enter a group: NCCL between GPUs, gloo between CPUs.

    Args:
        rank: number of this process.
        size: how many there will be.
        local_rank: number of this process on this machine; chooses the GPU.
        timeout: how long to wait for the others in any exchange.
        place: where they meet, as ``torch.distributed.init_process_group`` has it.
    """
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    with lost_peer():
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=timeout, **place)
    return Group(rank, size)


def leave() -> None:
    """Leave the group once all have come as far as this."""
    with contextlib.suppress(RuntimeError):  # another may be gone before it has answered
        dist.barrier()
    dist.destroy_process_group()


@contextlib.contextmanager
def lost_peer() -> Iterator[None]:
    """Say in our words what the communication library says when a process is gone.

    Raises:
        LostPeerError: the exchange did not come about.
    """
    try:
        yield
    except RuntimeError as error:
        raise LostPeerError(
            "another pre-training process has ended or does not answer", fix=CONTINUE
        ) from error


@dataclass
class _Bucket:
    """Parameters whose gradients travel together.

    Attributes:
        parameters: of one type and device.
        missing: how many of them have no gradient yet in this backward pass.
        flat: (N + P,) the P gradients end to end, and for each a 1 if there is one; None until it is sent.
        work: the exchange under way.
    """

    parameters: list[nn.Parameter] = field(default_factory=list)
    missing: int = 0
    flat: Tensor | None = None
    work: Any = None


class Reducer:
    """Adds up gradients over a group while the backward pass runs.

    A bucket leaves as soon as its last gradient is there and those before it have left, so the order is the
    same in every process.  A parameter without a gradient counts as zero; one that has none in any process
    stays without.

    Args:
        parameters: in the order of the forward pass; the backward pass comes to the last ones first.
        group: with one process nothing is done.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], group: Group) -> None:
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        self._buckets = _fill(wanted[::-1]) if group.size > 1 else []
        self._bucket_of = {parameter: bucket for bucket in self._buckets for parameter in bucket.parameters}
        for parameter in self._bucket_of:
            parameter.register_post_accumulate_grad_hook(self._arrived)
        self._armed = False
        self._sent = 0

    def arm(self) -> None:
        """Say that the next backward pass is the step's last: gradients are whole when it reaches them."""
        self._armed = True
        for bucket in self._buckets:
            bucket.missing = len(bucket.parameters)

    def finish(self) -> None:
        """Send what has not been sent, and put the sums into the parameters' gradients."""
        for bucket in self._buckets[self._sent :]:
            _send(bucket)
        for bucket in self._buckets:
            _receive(bucket)
        self._armed, self._sent = False, 0

    def _arrived(self, parameter: Tensor) -> None:
        if not self._armed:
            return
        self._bucket_of[parameter].missing -= 1  # type: ignore[index]
        while self._sent < len(self._buckets) and not self._buckets[self._sent].missing:
            _send(self._buckets[self._sent])
            self._sent += 1


def _fill(parameters: list[nn.Parameter]) -> list[_Bucket]:
    """Cut a list of parameters into buckets of at least BUCKET_BYTES (the last may be smaller)."""
    buckets: list[_Bucket] = []
    size, kind = BUCKET_BYTES, None
    for parameter in parameters:
        if size >= BUCKET_BYTES or kind != (parameter.dtype, parameter.device):
            buckets.append(_Bucket())
            size, kind = 0, (parameter.dtype, parameter.device)
        buckets[-1].parameters.append(parameter)
        size += parameter.numel() * parameter.element_size()
    return buckets


@torch.no_grad()
def _send(bucket: _Bucket) -> None:
    gradients = [parameter.grad for parameter in bucket.parameters]
    first = bucket.parameters[0]
    parts = [
        torch.zeros_like(parameter).reshape(-1) if gradient is None else gradient.reshape(-1)
        for parameter, gradient in zip(bucket.parameters, gradients, strict=True)
    ]
    present = torch.tensor([float(gradient is not None) for gradient in gradients]).to(first)
    bucket.flat = torch.cat([*parts, present])
    for parameter in bucket.parameters:
        parameter.grad = None  # it lives in the bucket now; no memory for it twice
    with lost_peer():
        bucket.work = dist.all_reduce(bucket.flat, async_op=True)


@torch.no_grad()
def _receive(bucket: _Bucket) -> None:
    assert bucket.flat is not None
    with lost_peer():
        bucket.work.wait()
    *sums, present = bucket.flat.split(
        [*(parameter.numel() for parameter in bucket.parameters), len(bucket.parameters)]
    )
    for parameter, total, count in zip(bucket.parameters, sums, present.tolist(), strict=True):
        parameter.grad = total.view_as(parameter) if count else None
    bucket.flat = bucket.work = None
