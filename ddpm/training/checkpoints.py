"""Checkpoints to resume from, and the locks and signals around them. Never a pickle."""

import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ddpm.base.errors import UserError
from ddpm.base.files import atomic_path, digest, flatten, read_json, write_json
from ddpm.base.locks import lock, read_holder
from ddpm.base.variant import shorten
from ddpm.compute.distributed import ALONE, Ranks, from_tensor, to_tensor
from ddpm.model.model_file import CHECKSUM, read_tensors, write_tensors

KEPT = 2  # generations of a checkpoint: the one before survives a torn write of the last
CHECKPOINTS = Path(".ddpm/checkpoints")
PARTS = ("grids", "ema", "snapshots")  # folders of what a training has made so far, copied to its outs when it ends
LOCK, CODE = "lock", "code.json"
RESUME = "DDPM_RESUME"  # variable: continue or restart a training that other code began
State = dict[str, dict[str, Any]]  # tensors and plain values, by part and name
PLAIN = "plain"  # the tensor of a file that has the plain values


class Checkpoints:
    """The resume state of one training run, a folder in ``.ddpm/checkpoints`` under the repository's root.

    fingerprint: of the params and data, so a run never resumes another's state. code: a digest by file; the name has
    it, too, and a run whose state is of other code asks before it continues that. The state is outside DVC's outs,
    because DVC removes those before it runs a stage.
    """

    def __init__(self, fingerprint: str, code: Mapping[str, str] = MappingProxyType({})):
        self.fingerprint, self.code = fingerprint, dict(code)
        self.folder = root() / (f"{fingerprint}-{digest(self.code)[:12]}" if code else fingerprint)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the run for this process. Raises UserError that names the process that already holds it, or the code
        that has changed since its state was saved."""
        if not self.folder.exists() and (before := list(filter(_newest, self._of_other_code()))):
            self._adopt(max(before, key=_newest))
        with lock(self.folder / LOCK) as mine:
            if mine is None:
                holder = read_holder(self.folder / LOCK)
                raise UserError(f"this experiment is already being trained by {holder}: wait for it, or stop it")
            write_json(self.folder / CODE, self.code)
            yield

    def _of_other_code(self) -> list[Path]:
        """The states of the same params and data that other code left."""
        return [path for path in root().glob(f"{self.fingerprint}-*") if path != self.folder]

    def _adopt(self, other: Path) -> None:
        """Continue another code's state, start over, or raise UserError, as ``RESUME`` has it."""
        choice = os.environ.get(RESUME)
        if choice == "restart":
            return
        before = read_json(other / CODE, dict[str, str])
        files = ", ".join(path for path in sorted(before | self.code) if before.get(path) != self.code.get(path))
        state = f"{other}: step {_newest(other):,} of this training is of other code ({shorten(files)} changed)"
        if choice != "continue":
            what = f"`{RESUME}=continue dvc repro` continues it, `{RESUME}=restart dvc repro` starts over"
            raise UserError(f"{state}: {what}")
        with lock(other / LOCK) as mine:
            if mine is None:
                raise UserError(f"{other}: is being trained by other code: wait for it, or stop it")
            other.rename(self.folder)
        print(f"warning: {state}: no single commit reproduces the result", file=sys.stderr)

    def save(self, step: int, state: State) -> None:
        """Write the state after ``step``, and keep the KEPT newest up to that step.

        A file of a later step is one that ``load`` could not read: it must not take the place of a good one.
        """
        path = self.folder / f"{step:09d}.safetensors"
        values = flatten(state)
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        plain = {name: value for name, value in values.items() if name not in tensors}
        write_tensors(path, {**tensors, PLAIN: to_tensor(plain)}, {"step": step})
        newest = [one for one in self._generations() if one <= path][:KEPT]
        for one in set(self._generations()).difference(newest):
            one.unlink()

    def load(self, device: torch.device, ranks: Ranks = ALONE) -> tuple[State, int] | None:
        """The newest readable state and its step, or None; unreadable ones are reported and skipped.

        The main rank reads it for all, so that a file that only one rank cannot read does not separate them.
        """
        tensors, step = self._read_newest() if ranks.main else ({}, 0)
        step = ranks.largest(step)
        if step == 0:
            return None
        tensors = ranks.broadcast(tensors)
        plain = from_tensor(tensors.pop(PLAIN))
        state: State = defaultdict(dict)  # a part may have been empty
        for key, value in ({key: tensor.to(device) for key, tensor in tensors.items()} | plain).items():
            part, _, name = key.partition(".")
            state[part][name] = value
        return state, step

    def _read_newest(self) -> tuple[dict[str, Tensor], int]:
        for path in self._generations():
            try:
                tensors, metadata = read_tensors(path, "checkpoint", torch.device("cpu"))
                if CHECKSUM not in metadata or "step" not in metadata or PLAIN not in tensors:
                    raise UserError(f"{path}: no checksum, step or plain values in this checkpoint file")
            except UserError as error:
                print(f"warning: {error}; using the previous checkpoint, or starting again", file=sys.stderr)
                continue
            return tensors, metadata["step"]
        return {}, 0

    def copy_parts(self, out: Path) -> None:
        """Copy the folders ``PARTS`` to the stage's outs."""
        for part in PARTS:
            (self.folder / part).mkdir(exist_ok=True)
            with atomic_path(out / part) as temporary:
                shutil.copytree(self.folder / part, temporary)
                if not any(temporary.iterdir()):  # DVC fails a stage without its out, and warns of an empty one
                    (temporary / "none.txt").write_text(f"Nothing in params.yaml asked for {part}.\n")

    def finish(self) -> None:
        """Delete the state of a complete run, and those that other code left. Not before it is certain that its result
        is kept: a run whose params were edited meanwhile goes on from here once they are put back."""
        for folder in (self.folder, *self._of_other_code()):
            with lock(folder / LOCK) as mine:  # another process may have begun to train it again
                if mine is not None:
                    for path in folder.glob("*.safetensors"):  # first, as the folders below are part of them
                        path.unlink()
                    shutil.rmtree(folder, ignore_errors=True)

    def _generations(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"), reverse=True)


def _newest(folder: Path) -> int:
    """The step of the newest checkpoint, 0 without any."""
    return max((int(path.stem) for path in folder.glob("*.safetensors")), default=0)


def root() -> Path:
    """The folder of all runs' states."""
    return Path(os.environ.get("DVC_ROOT", ".")) / CHECKPOINTS
