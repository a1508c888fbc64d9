"""Algorithm 1 of Ho et al. 2020 (arXiv:2006.11239): stoppable at any step, resumable to the same bytes."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ddpm.base import progress
from ddpm.base.errors import UserError
from ddpm.base.images import Images
from ddpm.base.machine import catch_signals
from ddpm.compute import devices, noise
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.data.processed import TrainClasses
from ddpm.diffusion.batch import Batch, Draws
from ddpm.model.model_file import save_model
from ddpm.training.batches import Batches
from ddpm.training.checkpoints import Checkpoints, State
from ddpm.training.history import History, LossRow
from ddpm.training.student import Student
from ddpm.training.train_params import TrainingConfig


class Log(Protocol):
    """Where the curve goes during training: rows are buffered, and sent after each checkpoint."""

    def log(self, row: LossRow) -> None: ...

    def flush(self) -> None: ...


# (trainer, folder for pictures) -> a function of the step, called after each step on every rank, that may draw one
Watch = Callable[["Trainer", Path], Callable[[int], None]]


def train(
    config: TrainingConfig,
    pictures: Images,
    device: torch.device,
    out: Path,
    checkpoints: Checkpoints,
    log: Log,
    watches: Sequence[Watch] = (),
    ranks: Ranks = ALONE,
    classes: TrainClasses | None = None,
) -> History:
    """Train on uint8 images (N, C, H, W); write ``out``/model.safetensors (EMA weights), and in ``out`` the folders
    snapshots (those at earlier steps), ema (of ``train.posthoc``) and grids (pictures of ``watches``). classes: the
    pictures', for a model that has them.

    Every rank calls it, and the main one writes. Raises UserError when the loss stops being finite, SystemExit after
    SIGINT or SIGTERM; both leave the last good checkpoint, and the same call resumes from it.
    """
    trainer = Trainer(config, pictures, device, ranks, classes and classes.labels)
    student = trainer.student
    history = History(trainer.total, trainer.batch_size, student.scaler.is_enabled())
    watchers = [watch(trainer, checkpoints.folder / "grids") for watch in watches]
    facts: dict[str, Any] = {**student.facts}
    if classes:
        facts["classes"] = {"names": classes.names, "counts": classes.counts}
    with checkpoints.hold() if ranks.main else nullcontext(), catch_signals() as signals:
        done = _resume(trainer, history, checkpoints)
        with progress.bar(trainer.total, "train", "step", done, ranks.main) as bar:
            for step in range(done + 1, trainer.total + 1):
                loss, gradient_norm = trainer.step(step)
                if row := history.add(step, loss, gradient_norm, config.train.rate(step, trainer.total)):
                    log.log(row)
                    bar.set_postfix_str(f"loss {row.loss:.4f}, {row.images_per_second:.0f} images/s", refresh=False)
                bar.update()
                for watcher in watchers:
                    watcher(step)
                if ranks.main:
                    student.averages.keep(step, checkpoints.folder, facts)
                number = ranks.largest(signals[0] if signals else 0)  # all ranks stop after the same step
                if number or step % config.train.checkpoint_every == 0:
                    state = trainer.state() | {"history": history.state(step)}
                    if ranks.main:
                        checkpoints.save(step, state)
                        log.flush()
                if number:
                    bar.close()
                    if ranks.main:
                        where = f"stopped after step {step} of {trainer.total}, and saved"
                        print(f"{where}: run the same command again to continue", file=sys.stderr)
                    raise SystemExit(128 + number)
        if ranks.main:
            save_model(out / "model.safetensors", student.averages.shipped, config, {"steps": trainer.total, **facts})
            checkpoints.copy_parts(out)
    return history


def _resume(trainer: Trainer, history: History, checkpoints: Checkpoints) -> int:
    """The steps that the newest checkpoint has behind it, once ``trainer`` and ``history`` are as it says. Raises
    UserError for one whose code kept other things."""
    if (checkpoint := checkpoints.load(trainer.device, trainer.ranks)) is None:
        return 0
    state, done = checkpoint
    try:
        trainer.restore(state)
        history.restore(state["history"])
    except KeyError as error:
        why = f"its state has no {error}, as the code that saved it had another layout"
        raise UserError(f"{checkpoints.folder}: {why}: remove the folder, and it starts over") from error
    if trainer.ranks.main:
        print(f"resuming after step {done} of {trainer.total}", file=sys.stderr)
    return done


class Trainer:
    """The data of a run, and the student that learns from them; ``step`` is one optimizer step of Algorithm 1."""

    def __init__(
        self,
        config: TrainingConfig,
        pictures: Images,
        device: torch.device,
        ranks: Ranks = ALONE,
        labels: np.ndarray | None = None,
    ):
        """labels: (N,) int64, the pictures' classes; a model that has classes needs them."""
        options = config.train
        self.config, self.device, self.ranks = config, device, ranks
        self.seed, self.shape, self.batch_size = config.seed, config.data.shape, options.batch_size
        options.check_ranks(ranks.size)
        self.total = options.total(len(pictures))
        self.epoch_steps = len(pictures) / self.batch_size
        devices.make_deterministic(device, options.deterministic)
        torch.manual_seed(noise.stream_seed(config.seed, "weights"))
        self.student = Student(config, device, ranks, self.total)
        self.sampler_state = options.timestep_sampler.state(self.student.chain.schedule, device)
        dropout = [f"dropout/{name}" for name in self.student.dropout]
        self.streams = noise.streams(self.seed, ["timestep", "flip", "label", *dropout], device)
        self.places, share = torch.arange(self.batch_size, device=device), ranks.share(self.batch_size)
        self.rows = range(self.batch_size)[share]
        self.ahead = noise.Ahead(len(self.rows) * math.prod(self.shape), device)
        self.batches = Batches(pictures, self.batch_size, config.seed, device, share, labels)

    def step(self, step: int) -> tuple[Tensor, Tensor]:
        """One step of Algorithm 1, from images to new averages. Each rank learns from its share of the batch.

        Returns the loss and the gradient's norm of the whole batch, scalars on the device: nothing waits for them.
        """
        options, student, losses = self.config.train, self.student, []
        t, weight, batch = self.draw_batch(step)  # lines 2 and 3
        for micro_batch in batch.split(options.accumulate):
            # only the last one's backward pass averages gradients over the ranks
            last = micro_batch.draws.rows.stop == batch.draws.rows.stop
            with nullcontext() if last else self.ranks.alone(student.forward):
                loss = self.config.diffusion.loss(student, micro_batch)  # line 4, and the error of line 5, by image
                student.scaler.scale((micro_batch.weight * loss).sum()).backward()
            losses.append(loss.detach())
        loss = self.ranks.gather(torch.cat(losses), self.batch_size)
        options.timestep_sampler.update(self.sampler_state, t, loss)
        return (weight * loss).mean(), student.learn(step)  # line 5: the gradient step

    def draw_batch(self, step: int) -> tuple[Tensor, Tensor, Batch]:
        """Algorithm 1, lines 2 and 3: the t of all ranks with their weights, and this rank's images with theirs.

        Some labels become the null class, so that one network learns both what guidance needs. Ho & Salimans 2022
        (arXiv:2207.12598), Algorithm 1.
        """
        options, share, places = self.config.train, self.batches.part, self.places
        words = self.ahead("words", step, lambda steps: noise.words(self.streams, places, steps))
        timestep, flip, label = noise.uniforms(words[:3])  # the other words are keys of dropout
        t, weight = options.timestep_sampler.draw(timestep, len(self.student.chain), self.sampler_state)
        x_0, condition = self.read(step, flip)
        if (labels := self.batches.labels(step)) is not None:
            labels = labels.masked_fill(label[share] < options.label_dropout, self.config.model.classes)
        others = self.read(step, flip, shift=1)[0] if self.config.diffusion.loss.contrasts else x_0[:0]
        # ranks average their gradients: so weighted, the average is that of the batch's mean
        in_mean, keys = weight[share] * (self.ranks.size / self.batch_size), words[3:, share].transpose(0, 1)
        draws = Draws(self.seed, step, places[share], self.rows, self.shape, self.ahead)
        return t, weight, Batch(x_0, others, t[share], in_mean, labels, condition, keys, draws)

    def read(self, step: int, flip: Tensor, shift: int = 0) -> tuple[Tensor, Tensor | None]:
        """This rank's images or, with ``shift``, those so many places on, flipped and augmented as they are there, with
        their condition. flip: (B,) draws in [0, 1), of the batch of all ranks."""
        options, at = self.config.train, self.places.roll(-shift)[self.batches.part]
        x_0 = self.batches(step, flip[at] < 0.5 if options.horizontal_flip else None, shift)
        if not (draws := options.augmentation.draws):
            return x_0, None
        draw = partial(noise.gaussian, self.seed, "augmentation", at, shape=(draws,))
        return options.augmentation(x_0, self.ahead(("augmentation", shift), step, draw))

    def state(self) -> State:
        """Everything that the next step depends on; random numbers are functions of the step and need no state."""
        return {**self.student.state(), "timesteps": self.sampler_state}

    def restore(self, state: State) -> None:
        """Load what ``state`` returned."""
        self.student.restore(state)
        self.sampler_state = state["timesteps"]
