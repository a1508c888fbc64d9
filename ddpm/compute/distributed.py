"""One stage on several processes: each is a rank with a share of every batch. On one machine ``launch`` starts them, on
several torchrun.

Every random draw is a function of (seed, purpose, index, step), so results agree up to rounding on any number of
ranks, and a run may be resumed on a different number.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ddpm.base.errors import EXIT_USER_ERROR, Diverged, UserError, memory_fault
from ddpm.base.machine import exit_at_sigterm

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# environment variables that the launcher sets for its ranks
START = "DDPM_START"  # a file with the stage's ``inputs.Start``; what else ranks share is next to it
LAUNCHER = "DDPM_LAUNCHER"  # the launcher's process id
ERROR = "error"  # name of the file with the line that the launcher prints, of the first rank that fails
STORE = "store"  # name of the file by which the ranks meet
REASON = 400  # characters shown of a message from gloo or NCCL
POLL, GRACE = 0.1, 30.0  # seconds between looks at the ranks, and for those that have to end
PATIENCE = timedelta(days=1)  # how long to wait for what the main rank does alone: gloo's 30 minutes may be too few


def processes(choice: int | Literal["auto"], device: str) -> int:
    """How many ranks this machine runs. Raises UserError when ``choice`` exceeds the number of GPUs."""
    import torch

    gpus = torch.cuda.device_count() if device in {"auto", "cuda"} else 0
    if choice == "auto":
        return max(1, gpus)  # on a CPU, ranks wait for each other as soon as anything else runs there
    if choice > 1 and device.startswith("cuda:"):
        raise UserError(f"launch.processes: {choice} with device: {device}, which is one GPU; set device: cuda, or 1")
    if 0 < gpus < choice:
        raise UserError(f"launch.processes: {choice}, but there are {gpus} GPUs; allowed: {gpus}, auto, or device: cpu")
    return choice


def launch(program: Sequence[str], count: int, start: str) -> int:
    """Run Python with the arguments ``program`` on ``count`` ranks of this machine; returns an exit code.

    The ranks read ``start`` from the file that START names. If one fails, or this process is to end, the others are
    ended. Nothing listens on the network: the ranks meet in files of a folder that only this user can read. Raises
    UserError with the failed rank's line, with the signal that killed it, or, if no rank failed by itself, with the
    message of gloo or NCCL.
    """
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    before = exit_at_sigterm()
    with tempfile.TemporaryDirectory(prefix="ddpm-ranks-") as folder:
        given = Path(folder) / "start.json"
        given.write_text(start, encoding="utf-8")
        environment = os.environ | {
            START: str(given),
            LAUNCHER: str(os.getpid()),
            "WORLD_SIZE": str(count),
            "GLOO_SOCKET_IFNAME": loopback,
            "NCCL_SOCKET_IFNAME": loopback,
        }
        ranks = list[subprocess.Popen[bytes]]()
        try:
            for number in map(str, range(count)):
                own = environment | {"RANK": number, "LOCAL_RANK": number}
                # of a group of its own, so that Ctrl-C reaches this process alone
                ranks.append(subprocess.Popen([sys.executable, *program], env=own, process_group=0))
            while not any(rank.poll() for rank in ranks) and any(rank.returncode is None for rank in ranks):
                time.sleep(POLL)
            ends = [rank.poll() for rank in ranks]  # once more: one that was killed ended before those that it failed
        finally:
            for rank in ranks:
                rank.terminate()
            until = time.monotonic() + GRACE
            for rank in ranks:
                with suppress(subprocess.TimeoutExpired):
                    rank.wait(max(0.0, until - time.monotonic()))
                rank.kill()
            signal.signal(signal.SIGTERM, before)
        return _exit_code(ends, given.with_name(ERROR))


def _exit_code(ends: Sequence[int | None], line: Path) -> int:
    """The exit code of a rank that printed the reason. Raises UserError if a rank was killed, or wrote the ``line``.
    ends: the exit code of each rank; None of one that had to be ended."""
    for rank, code in enumerate(ends):
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            raise UserError(f"rank {rank} of {len(ends)} was killed by {name}: run the same command again to resume")
    if line.exists():
        left = json.loads(line.read_text(encoding="utf-8"))
        raise (Diverged if left["diverged"] else UserError)(left["line"])
    return max(filter(None, ends), default=0)


@contextmanager
def join_group(device: torch.device) -> Iterator[None]:
    """Join the group of all ranks. A user's mistake is left for ``launch`` to print, because every rank may find the
    same one. So is the loss of another rank: ``launch`` may know which one died, and how.

    Raises UserError if torchrun was started by hand, so that no ``launch`` is waiting.
    """
    import torch
    import torch.distributed as dist

    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    store = None  # torchrun's own, at MASTER_ADDR, unless ``launch`` started this rank
    if START in os.environ:
        path = Path(os.environ[START]).with_name(STORE)
        store = dist.FileStore(str(path), int(os.environ["WORLD_SIZE"]))  # type: ignore[attr-defined]  # is public
    try:
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(
            backend, store=store, rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"])
        )
        last: Any = dist.new_group(timeout=PATIENCE, backend="gloo")  # a group, as every rank is in it
        yield
        dist.barrier(last)  # torchrun waits 5 minutes for the ranks of other machines, and then says that all went well
    except (UserError, RuntimeError) as error:
        if isinstance(error, UserError):
            mistake = error
        elif full := memory_fault(error):
            mistake = UserError(full)
        elif isinstance(error, dist.DistError) or "gloo" in str(error):
            me = f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}"
            # without gloo's source location and its advice
            reason = re.sub(r"^\[\S+\] |\. This is typically .*", "", " ".join(str(error).split()))[:REASON]
            hints = (
                "look for an error of another rank, a firewall, a full memory or /dev/shm, or set launch.processes: 1"
            )
            mistake = UserError(f"{me} lost the others ({reason}): run the command again to resume, or {hints}")
        else:
            raise
        if START not in os.environ:
            print(file=sys.stderr)  # another rank may have left a progress bar in the line
            raise mistake from error
        with suppress(FileExistsError), Path(os.environ[START]).with_name(ERROR).open("x", encoding="utf-8") as file:
            json.dump({"line": str(mistake), "diverged": isinstance(mistake, Diverged)}, file)
        sys.exit(EXIT_USER_ERROR)
    dist.destroy_process_group()


def current() -> Ranks:
    """This process's rank in the group that it has joined, or ``ALONE`` if it has joined none."""
    import torch.distributed as dist

    return Ranks(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Ranks()


def to_tensor(value: Any) -> Tensor:
    """Plain values as a tensor, their JSON in uint8, to be saved or broadcast like any other."""
    import torch

    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def from_tensor(tensor: Tensor) -> Any:
    """The value that ``to_tensor`` was given; tuples come back as lists."""
    return json.loads(bytes(tensor.tolist()))


@dataclass(frozen=True)
class Ranks:
    """This process's ``rank`` among ``size``. With a size of 1 all operations return their argument."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the rank that writes files and messages."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """This rank's part of ``count`` things: contiguous, in the order of ranks, as even as possible."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def shares(self, count: int) -> list[slice]:
        """Every rank's ``share``."""
        return [Ranks(rank, self.size).share(count) for rank in range(self.size)]

    def gather(self, tensor: Tensor, count: int) -> Tensor:
        """Collect every rank's ``share`` into the whole, (count, ...), on every rank."""
        return self.join(tensor, [share.stop - share.start for share in self.shares(count)])

    def join(self, tensor: Tensor, rows: Sequence[int]) -> Tensor:
        """Concatenate the ranks' tensors on every rank; rank r holds (rows[r], ...)."""
        import torch
        import torch.distributed as dist

        if self.size == 1:
            return tensor
        padded = tensor.new_zeros(max(rows), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in rows]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])

    def largest(self, value: int) -> int:
        """The largest ``value`` of any rank, on every rank."""
        import torch
        import torch.distributed as dist

        if self.size == 1:
            return value
        tensor = torch.tensor(value)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def broadcast(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The CPU ``tensors`` of the main rank, on every rank; those of the other ranks are ignored."""
        import torch
        import torch.distributed as dist
        from safetensors.torch import load, save

        if self.size == 1:
            return tensors
        content = torch.frombuffer(bytearray(save(tensors)), dtype=torch.uint8)
        length = torch.tensor(len(content))
        dist.broadcast(length, 0)
        content = content if self.main else content.new_empty(int(length))
        dist.broadcast(content, 0)
        return load(content.numpy().tobytes())

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network, with a backward pass that averages gradients over the ranks as it runs."""
        from torch.nn.parallel import DistributedDataParallel

        if self.size == 1:
            return network
        return DistributedDataParallel(network, gradient_as_bucket_view=True)

    def alone(self, network: nn.Module) -> AbstractContextManager[None]:
        """A context in which a ``parallel`` network's backward pass does not average, for gradients to accumulate."""
        no_sync: Any = network.no_sync if self.size > 1 else nullcontext  # compiled or not
        context: AbstractContextManager[None] = no_sync()
        return context


ALONE = Ranks()
