"""Algorithm 1 of Ho et al. 2020 (arXiv:2006.11239): stoppable at any step, resumable to the same bytes."""

import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ddpm.base import progress
from ddpm.base.files import atomic_path
from ddpm.base.images import Images
from ddpm.compute import devices, noise
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.data.processed import TrainClasses
from ddpm.diffusion.batch import Batch
from ddpm.model.layers import hidden_weights
from ddpm.model.model_file import save_model
from ddpm.training import optimizer
from ddpm.training.augmentation import augment
from ddpm.training.batches import Batches
from ddpm.training.checkpoints import PARTS, Checkpoints, State, add_prefix, interruptible, strip_prefix
from ddpm.training.history import History, LossRow
from ddpm.training.snapshots import Averages
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
    options = config.train
    trainer = Trainer(config, pictures, device, ranks, classes and classes.labels)
    history = History(trainer.total, trainer.batch_size, trainer.scaler.is_enabled())
    watched = [watch(trainer, checkpoints.folder / "grids") for watch in watches]
    facts: dict[str, Any] = {"precision": devices.precision_name(trainer.dtype), **trainer.student.facts}
    if classes:
        facts["classes"] = {"names": classes.names, "counts": classes.counts}
    with checkpoints.locked() if ranks.main else nullcontext(), interruptible() as signals:
        done = trainer.resume(checkpoints, history)
        with progress.bar(trainer.total, "train", "step", done, ranks.main) as bar:
            for step in range(done + 1, trainer.total + 1):
                loss, gradient_norm = trainer.step(step)
                if row := history.add(step, loss, gradient_norm, options.rate(step, trainer.total)):
                    log.log(row)
                    bar.set_postfix_str(f"loss {row.loss:.4f}, {row.images_per_second:.0f} images/s", refresh=False)
                bar.update()
                for after in watched:
                    after(step)
                if ranks.main:
                    trainer.averages.keep(step, checkpoints.folder, facts)
                stopped = ranks.largest(signals[0] if signals else 0)  # all ranks stop after the same step
                if stopped or step % options.checkpoint_every == 0:
                    state = trainer.state() | add_prefix("history.", history.state(step))
                    if ranks.main:
                        checkpoints.save(step, state)
                        log.flush()
                if stopped:
                    bar.close()
                    if ranks.main:
                        shown = f"stopped after step {step} of {trainer.total}, and saved"
                        print(f"{shown}: run the same command again to continue", file=sys.stderr)
                    raise SystemExit(128 + stopped)
        if ranks.main:
            save_model(out / "model.safetensors", trainer.averages.shipped, config, {"steps": trainer.total, **facts})
            for part in PARTS:
                folder = checkpoints.folder / part
                folder.mkdir(exist_ok=True)
                with atomic_path(out / part) as temporary:
                    shutil.copytree(folder, temporary)
                    if not any(temporary.iterdir()):  # DVC fails a stage without its out, and warns of an empty one
                        (temporary / "none.txt").write_text(f"Nothing in params.yaml asked for {part}.\n")
    return history


class Trainer:
    """Network, optimizer, average and data of one run; ``step`` is one optimizer step of Algorithm 1."""

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
        devices.make_deterministic(device, options.deterministic)
        torch.manual_seed(noise.stream_seed(config.seed, "weights"))
        self.total = options.total(len(pictures))
        self.epoch_steps = len(pictures) / self.batch_size
        self.student = Student(config, device, ranks)
        self.network, self.chain, self.dtype = self.student.network, self.student.chain, self.student.dtype
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.auxiliary = nn.ModuleList([self.student.augmented] if self.student.augmented else [])
        self.parameters = [*self.network.parameters(), *self.auxiliary.parameters()]
        self.optimizer = options.optimizer.over(self.parameters, hidden_weights(self.network), options.learning_rate)
        self.averages = Averages(self.network, config, self.total)
        self.timesteps = options.timestep_sampler.state(self.chain.schedule, device)
        dropout = [f"dropout/{name}" for name in self.student.dropout]
        self.streams = noise.streams(self.seed, ["timestep", "flip", "label", *dropout], device)
        self.places, share = torch.arange(self.batch_size, device=device), ranks.share(self.batch_size)
        self.rows = range(self.batch_size)[share]
        self.batches = Batches(pictures, self.batch_size, config.seed, device, share, None, labels)

    def step(self, step: int) -> tuple[Tensor, Tensor]:
        """One step of Algorithm 1, from images to new averages. Each rank learns from its share of the batch.

        Returns the loss and the gradient's norm of the whole batch, scalars on the device: nothing waits for them.
        """
        options, losses = self.config.train, []
        t, weight, batch = self.draw(step)
        for part in batch.split(options.accumulate):
            with nullcontext() if part.rows.stop == batch.rows.stop else self.ranks.alone(self.student.forward):
                loss = self.config.diffusion.loss(self.student, part)
                self.scaler.scale((part.weight * loss).sum()).backward()
            losses.append(loss.detach())
        loss = self.ranks.gather(torch.cat(losses), self.batch_size)
        options.timestep_sampler.update(self.timesteps, t, loss)
        norm = self.clip()
        for group in self.optimizer.param_groups:
            group["lr"] = options.rate(step, self.total)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.averages.update(step)
        options.optimizer.average(self.optimizer, list(self.averages.shipped.values()))
        return (weight * loss).mean(), norm

    def draw(self, step: int) -> tuple[Tensor, Tensor, Batch]:
        """Algorithm 1, lines 2 and 3: the t of all ranks with their weights, and this rank's images with theirs.

        Some labels become the null class, so that one network learns both what guidance needs. Ho & Salimans 2022
        (arXiv:2207.12598), Algorithm 1.
        """
        options, share = self.config.train, self.batches.part
        words, place = noise.words(self.streams, self.places, step), self.places[share]
        timestep, flip, label = noise.uniforms(words[:3])
        t, weight = options.timestep_sampler.draw(timestep, len(self.chain), self.timesteps)
        images = self.batches(step, flip[share] < 0.5 if options.horizontal_flip else None)
        x_0, condition = augment(options.augmentation, images, self.seed, place, step)
        if (labels := self.batches.labels(step)) is not None:
            labels = labels.masked_fill(label[share] < options.label_dropout, self.config.model.classes)
        return t, weight, Batch(
            x_0=x_0, t=t[share], weight=weight[share] * (self.ranks.size / self.batch_size), labels=labels,
            condition=condition, dropout=words[3:, share].transpose(0, 1), place=place, rows=self.rows, seed=self.seed,
            step=step, done=(step - 1) / self.total, perturbation=options.input_perturbation,
        )  # fmt: skip

    def clip(self) -> Tensor:
        """Limit the gradient's norm to ``train.gradient_clip``; returns what it was, of the whole batch."""
        for parameter in self.auxiliary.parameters():  # the network's gradients are averaged by its own backward pass
            if (gradient := parameter.grad) is not None:
                parameter.grad = self.ranks.gather(gradient[None], self.ranks.size).mean(dim=0)
        self.scaler.unscale_(self.optimizer)
        norm = get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if (largest := self.config.train.gradient_clip) is not None:
            clip_grads_with_norm_(self.parameters, largest, norm)
        return norm

    def state(self) -> State:
        """Everything that the next step depends on; random numbers are functions of the step and need no state."""
        tensors = add_prefix("network.", self.network.state_dict()) | add_prefix("ema.", self.averages.shipped)
        tensors |= add_prefix("posthoc.", self.averages.posthoc) | add_prefix("timesteps.", self.timesteps)
        tensors |= add_prefix("auxiliary.", self.auxiliary.state_dict())
        tensors |= add_prefix("optimizer.", optimizer.state(self.optimizer))
        return {**tensors, "scaler": self.scaler.state_dict()}

    def resume(self, checkpoints: Checkpoints, history: History) -> int:
        """Load the newest checkpoint; returns its number of steps, 0 without one."""
        loaded = checkpoints.load(self.device, self.ranks)
        if loaded is None:
            return 0
        tensors, step = loaded
        self.network.load_state_dict(strip_prefix("network.", tensors))
        for prefix, averages in (("ema.", self.averages.shipped), ("posthoc.", self.averages.posthoc)):
            for name, value in strip_prefix(prefix, tensors).items():
                averages[name].copy_(value)
        self.timesteps = strip_prefix("timesteps.", tensors)
        self.auxiliary.load_state_dict(strip_prefix("auxiliary.", tensors))
        optimizer.restore(self.optimizer, strip_prefix("optimizer.", tensors))
        self.scaler.load_state_dict(tensors["scaler"])
        history.restore(strip_prefix("history.", tensors))
        if self.ranks.main:
            print(f"resuming after step {step} of {self.total}", file=sys.stderr)
        return step
