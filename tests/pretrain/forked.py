"""A group of processes for tests: forks of this one, which is much quicker than starting new ones."""

import multiprocessing
import tempfile
import traceback
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from wellread.pretrain import parallel


def together(size, function, *arguments):
    """``function(group, *arguments)`` in ``size`` processes; what each returned, by rank."""
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe(duplex=False) for _ in range(size)]
        children = [
            context.Process(target=_child, args=(rank, size, folder, pipes[rank][1], function, arguments))
            for rank in range(size)
        ]
        for child in children:
            child.start()
        results = [pipe.recv() if pipe.poll(120) else "no answer" for pipe, _ in pipes]
        for child in children:
            child.kill()
            child.join()
    for rank, (kind, value) in enumerate(results):
        assert kind == "result", f"rank {rank}:\n{value}"
    return [value for _, value in results]


def _child(rank, size, folder, pipe, function, arguments):
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder) / "store"), size)
    try:
        group = parallel.join(rank, size, rank, timedelta(seconds=60), store=store)
        value = function(group, *arguments)
        parallel.leave()
        pipe.send(("result", value))
    except BaseException:
        pipe.send(("error", traceback.format_exc()))
