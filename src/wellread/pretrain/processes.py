"""Pre-training in several processes: started here, or by ``torchrun``.

With ``--processes N`` this process starts N workers, watches them, and trains nothing itself: whichever
worker dies, somebody is left to stop the others and to say what happened.  A worker gets its orders as one
line of JSON on its standard input, which stays open; when it closes, the parent is gone and the worker ends.
The workers meet through a file, so no port has to be chosen, and speak over the loopback interface only.

Under ``torchrun`` every process runs the same command: rank 0 builds all stages, the others help it with
pre-training (:func:`help_out`) and ``torchrun`` does the watching.

    python -m wellread.pretrain.processes    a worker, started by :func:`run`
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import wellread
from wellread.errors import UserError
from wellread.progress import say
from wellread.settings import ModelSettings, PretrainSettings
from wellread.workers import torch_threads

LOST = 75  # exit code of a worker that stops because another one is gone
POLL_SECONDS = 0.05
CAUSE_SECONDS = 5.0  # in which the worker that failed first is looked for
END_SECONDS = 5.0  # after which a worker that was asked to end is killed
# A step, a validation or a checkpoint takes less; under torchrun the others wait for rank 0's other stages.
TIMEOUT = timedelta(minutes=30)
TORCHRUN_TIMEOUT = timedelta(days=30)
TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Job:
    """One pre-training; the fields are those of :func:`wellread.pretrain.loop.pretrain`.

    Attributes:
        threads: CPU threads of each process; None shares the cores out.
    """

    model: ModelSettings
    settings: PretrainSettings
    tokens: Path
    tokenizer: Path
    folder: Path
    seed: int
    quiet: bool
    threads: int | None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        paths = {name: str(getattr(self, name).resolve()) for name in ("tokens", "tokenizer", "folder")}
        # What is not given stays so: a start checkpoint may have its own.
        groups = {
            name: getattr(self, name).model_dump(mode="json", exclude_unset=True)
            for name in ("model", "settings")
        }
        return {**groups, **paths, "seed": self.seed, "quiet": self.quiet, "threads": self.threads}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Job:
        """The job that :meth:`to_json` was called on."""
        return cls(
            model=ModelSettings(**values["model"]),
            settings=PretrainSettings(**values["settings"]),
            tokens=Path(values["tokens"]),
            tokenizer=Path(values["tokenizer"]),
            folder=Path(values["folder"]),
            seed=values["seed"],
            quiet=values["quiet"],
            threads=values["threads"],
        )


def run(job: Job, processes: int) -> None:
    """Pre-train in ``processes`` processes; with one, in this one.

    Raises:
        UserError: as of the training itself, or a process died, or there are fewer GPUs than processes.
    """
    if processes == 1:
        _train(job)
    elif launched():
        _lead(job)
    else:
        _supervise(job, processes)


def check(processes: int, threads: int | None) -> None:
    """Refuse an impossible number of processes, and warn of too many.

    Raises:
        UserError: fewer than one, or more than there are GPUs.
    """
    if processes < 1:
        raise UserError(f"{processes} processes cannot train", where="--processes", fix="give 1 or more")
    if launched() and processes != launched():
        raise UserError(
            f"torchrun started {launched()} processes",
            where="--processes",
            fix="leave --processes out: torchrun decides",
        )
    if processes == 1:
        return
    import torch

    gpus = torch.cuda.device_count()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    if 0 < gpus < local:
        raise UserError(
            f"{local} processes, but {gpus} GPU(s)", where="--processes", fix="take one process per GPU"
        )
    wanted, cores = local * (threads or 1), _cores()
    if not gpus and wanted > cores:
        say(f"{local} processes of {threads or 1} thread(s) share {cores} core(s); fewer would be faster")


def _train(job: Job, **group: Any) -> None:
    from wellread.pretrain.loop import pretrain

    pretrain(
        job.model,
        job.settings,
        tokens=job.tokens,
        tokenizer=job.tokenizer,
        folder=job.folder,
        seed=job.seed,
        quiet=job.quiet,
        **group,
    )


def _share(wanted: int | None, local: int) -> int:
    """Threads of each of the ``local`` processes on this machine."""
    return wanted or max(1, _cores() // local)


def _cores() -> int:
    from wellread.workers import cores

    return cores()


# -- the parent of the workers ---------------------------------------------------------------------


def _supervise(job: Job, processes: int) -> None:
    with tempfile.TemporaryDirectory(prefix="wellread-") as meeting:
        workers: list[subprocess.Popen[str]] = []
        try:
            for rank in range(processes):
                workers.append(_start(job, rank, processes, Path(meeting)))
            _watch(workers, Path(meeting))
        finally:
            _end(workers)


def _start(job: Job, rank: int, processes: int, meeting: Path) -> subprocess.Popen[str]:
    source = str(Path(wellread.__file__).parents[1])
    search = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": search}
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    for library in ("GLOO", "NCCL") if loopback else ():
        environment.setdefault(f"{library}_SOCKET_IFNAME", loopback[0])
    # A worker inherits the mask: Ctrl-C is for the parent alone, which then ends the workers.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        worker = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, text=True, env=environment
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    orders = {"rank": rank, "size": processes, "meeting": str(meeting), "job": job.to_json()}
    assert worker.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it died at once; _watch says so
        worker.stdin.write(json.dumps(orders) + "\n")
        worker.stdin.flush()
    return worker


def _watch(workers: list[subprocess.Popen[str]], meeting: Path) -> None:
    """Return when all workers have done their work.

    Raises:
        UserError: one of them failed or died.
    """
    while True:
        codes = [worker.poll() for worker in workers]
        if any(code not in (None, 0) for code in codes):
            raise _cause(workers, meeting)
        if None not in codes:
            return
        time.sleep(POLL_SECONDS)


def _cause(workers: list[subprocess.Popen[str]], meeting: Path) -> Exception:
    """Why the workers stop: what the first says that does not only miss another one."""
    deadline = time.monotonic() + CAUSE_SECONDS
    while time.monotonic() < deadline:
        for rank, worker in enumerate(workers):
            code = worker.poll()
            if code not in (None, 0, LOST):
                return _explain(rank, len(workers), code, meeting)
        time.sleep(POLL_SECONDS)
    silent = [str(rank) for rank, worker in enumerate(workers) if worker.poll() is None]
    who = f"rank {', '.join(silent)}" if silent else "the others"
    return _lost(f"a pre-training process waited in vain for {who}")


def _explain(rank: int, size: int, code: int, meeting: Path) -> Exception:
    process = f"pre-training process of rank {rank} (of {size})"
    if code < 0:
        name = signal.Signals(-code).name
        memory = "; the system does so when memory runs out" if name == "SIGKILL" else ""
        return _lost(f"the {process} was ended by {name}{memory}")
    with contextlib.suppress(OSError, ValueError):
        return UserError(**json.loads((meeting / f"error-{rank}.json").read_bytes()))
    return RuntimeError(f"the {process} ended with exit code {code}")


def _lost(what: str) -> UserError:
    return UserError(
        what,
        fix="run the same command again; it goes on from the last checkpoint, with any number of processes",
    )


def _end(workers: list[subprocess.Popen[str]]) -> None:
    """Let no worker outlive this call."""
    for worker in workers:
        worker.terminate()
    deadline = time.monotonic() + END_SECONDS
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(max(0.0, deadline - time.monotonic()))
        worker.kill()
        worker.wait()
        if worker.stdin:
            with contextlib.suppress(BrokenPipeError):
                worker.stdin.close()


# -- a worker --------------------------------------------------------------------------------------


def _work() -> None:
    """Do what the line on standard input says; the exit code tells the parent how it went."""
    orders = json.loads(sys.stdin.readline())
    rank, size, meeting = orders["rank"], orders["size"], Path(orders["meeting"])
    threading.Thread(target=_end_with_parent, args=(meeting,), daemon=True).start()

    from wellread.pretrain import parallel

    try:
        import torch.distributed as dist

        place = dist.FileStore(str(meeting / "store"), size)
        job = Job.from_json(orders["job"])
        with torch_threads(_share(job.threads, size)):
            group = parallel.join(rank, size, rank, TIMEOUT, store=place)
            _train(job, group=group)
        parallel.leave()
    except parallel.LostPeerError:
        os._exit(LOST)
    except UserError as error:
        facts = {"what": error.what, "where": error.where, "fix": error.fix}
        (meeting / f"error-{rank}.json").write_text(json.dumps(facts))
        os._exit(UserError.exit_code)
    except Exception:
        traceback.print_exc()
        os._exit(1)  # at once: a regular end might wait for the others


def _end_with_parent(meeting: Path) -> None:
    sys.stdin.read()
    shutil.rmtree(meeting, ignore_errors=True)
    os._exit(1)


# -- under torchrun --------------------------------------------------------------------------------


def launched() -> int:
    """How many processes ``torchrun`` (or another launcher of its kind) has started; 0 without one."""
    if not all(name in os.environ for name in TORCHRUN) or int(os.environ["WORLD_SIZE"]) < 2:
        return 0
    return int(os.environ["WORLD_SIZE"])


def helper() -> bool:
    """Whether this process only helps rank 0 of a ``torchrun``."""
    return bool(launched()) and int(os.environ["RANK"]) > 0


@contextlib.contextmanager
def gathered() -> Iterator[None]:
    """Rank 0: have the helpers wait for work inside the block, and let them go after it."""
    if not launched():
        yield
        return
    from wellread.pretrain import parallel

    _join()
    yield  # after an error there is no farewell: the helpers see the connection close
    _tell(None)
    parallel.leave()


def help_out() -> None:
    """The other ranks: take part in every pre-training of rank 0, until it is done."""
    from wellread.pretrain import parallel

    group = _join()
    while (values := _tell(None)) is not None:
        job = Job.from_json(values)
        with torch_threads(_share(job.threads, _local_size())):
            _train(job, group=group)
    parallel.leave()


def _lead(job: Job) -> None:
    from wellread.pretrain.parallel import Group

    _tell(job.to_json())
    with torch_threads(_share(job.threads, _local_size())):
        _train(job, group=Group(0, launched()))


def _join() -> Any:
    from wellread.pretrain.parallel import join

    local = int(os.environ.get("LOCAL_RANK", 0))
    return join(int(os.environ["RANK"]), launched(), local, TORCHRUN_TIMEOUT, init_method="env://")


def _tell(job: dict[str, Any] | None) -> dict[str, Any] | None:
    """Hand rank 0's job to all ranks; None is the end."""
    import torch
    import torch.distributed as dist

    from wellread.pretrain.parallel import lost_peer

    box = [json.dumps(job)]
    with lost_peer():
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return json.loads(box[0])


def _local_size() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", launched()))


if __name__ == "__main__":
    _work()
