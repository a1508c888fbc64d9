"""Checkpoints to resume from, and the locks and signals around them. Never a pickle."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ddpm.base.errors import UserError
from ddpm.base.files import atomic_path, sha256, try_lock
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.model.model_file import CHECKSUM, read, write

KEPT = 2  # generations of a checkpoint: the one before survives a torn write of the last
CHECKPOINTS = Path(".ddpm/checkpoints")
FINISHED = "finished"
PARTS = ("grids", "ema", "snapshots")  # folders of what a training has made so far, copied to its outs when it ends
LOCK = "lock"
TAKEN = ".taken"  # ends the name of a state that is being deleted


class Checkpoints:
    """The resume state of one training run: ``.ddpm/checkpoints/<fingerprint>/`` under the repository's root.

    ``fingerprint`` hashes everything that DVC sees as the stage's inputs, so a run never resumes another's state. The
    state is outside DVC's outs, because DVC removes those before it runs a stage.

    ``record`` is what DVC has on record for such a training, from ``inputs.on_record``. With it, the state of a
    complete run stays until DVC has taken its result: a run that is killed before that, or refused because its inputs
    have changed, is not lost.
    """

    def __init__(self, fingerprint: str, record: str | None = None):
        self.folder = root() / fingerprint
        self.record = record

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for this process. Raises UserError that names the process that already holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        holder = self.folder / "pid"
        try:
            with FileLock(self.folder / LOCK, timeout=0):
                holder.write_text(str(os.getpid()))
                finished = self.folder / FINISHED
                if finished.exists() and _taken(finished.read_text(), self.record):
                    for path in self._generations():
                        path.unlink()
                    for part in PARTS:
                        shutil.rmtree(self.folder / part, ignore_errors=True)
                    finished.unlink()
                yield
        except Timeout as error:
            pid = holder.read_text() if holder.exists() else "unknown"
            raise UserError(
                f"this experiment is already being trained by process {pid}: wait for it, or stop it"
            ) from error

    def save(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Write the state after ``step``, and keep the KEPT newest up to that step.

        A file of a later step is one that ``load`` could not read: it must not take the place of a good one.
        """
        path = self.folder / f"{step:09d}.safetensors"
        write(path, tensors, {"step": step})
        kept = [one for one in self._generations() if one <= path][:KEPT]
        for one in set(self._generations()).difference(kept):
            one.unlink()

    def load(self, device: torch.device, ranks: Ranks = ALONE) -> tuple[dict[str, Tensor], int] | None:
        """The newest readable state and its step, or None; unreadable ones are reported and skipped.

        The main rank reads it for all, so that a file that only one rank cannot read does not separate them.
        """
        tensors, step = self._newest() if ranks.main else ({}, 0)
        step = ranks.largest(step)
        if step == 0:
            return None
        return {name: tensor.to(device) for name, tensor in ranks.broadcast(tensors).items()}, step

    def _newest(self) -> tuple[dict[str, Tensor], int]:
        for path in self._generations():
            try:
                tensors, metadata = read(path, "checkpoint", torch.device("cpu"))
                if CHECKSUM not in metadata or "step" not in metadata:
                    raise UserError(f"{path}: no checksum in this checkpoint file")
            except UserError as error:
                print(f"warning: {error}; going back to the one before, or to the start", file=sys.stderr)
                continue
            return tensors, metadata["step"]
        return {}, 0

    def finish(self, model: Path) -> None:
        """The run is complete: it made the file ``model``."""
        if self.record is None:
            shutil.rmtree(self.folder)
        else:
            with atomic_path(self.folder / FINISHED) as temporary:
                temporary.write_text(f"{self.record} {sha256(model)}")

    def _generations(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"), reverse=True)


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A part of a state, by the names that it has in the whole."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The part of a state that ``prefixed`` named."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _taken(finished: str, record: str | None) -> bool:
    """Whether DVC has taken the result of a complete run since it wrote ``finished``."""
    return record not in (finished.partition(" ")[0], "")


def forget_finished(fingerprint: str, model: str, record: str) -> None:
    """Delete that training's state if it is complete, made ``model`` (a file's sha256), and DVC has taken the result.

    The next stage calls it, which DVC starts once it has taken the result. States of other experiments stay, even one
    that made an equal model: they may be running in other folders. So does a state that another process removes or
    resumes meanwhile.
    """
    folder = root() / fingerprint
    with suppress(OSError):  # gone or not removable, which is no reason to fail: `ddpm doctor` counts what stays
        # not FileLock, which would create the folder again if another process has just removed it
        if (lock := try_lock(folder / LOCK)) is not None:
            try:
                finished = (folder / FINISHED).read_text()
                if finished.endswith(f" {model}") and _taken(finished, record):
                    # in one step, because a training would resume from half of a state; to a new name, because a killed
                    # process may have left the old one
                    folder.rename(tempfile.mkdtemp(TAKEN, f"{fingerprint}.", root()))
            finally:
                os.close(lock)
    for left in root().glob(f"*{TAKEN}"):
        shutil.rmtree(left, ignore_errors=True)  # another process may be deleting it too


def root() -> Path:
    """The folder of all runs' states."""
    return Path(os.environ.get("DVC_ROOT", ".")) / CHECKPOINTS


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in the yielded list, so that the step can be finished and saved first."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda caught, _: received.append(caught))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
