"""Algorithm 1 of Ho et al. 2020 (arXiv:2006.11239): stoppable at any step, resumable to the same bytes."""

import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import accumulate
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
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import q_sample
from ddpm.diffusion.loss import Denoised, Lesson
from ddpm.diffusion.parameterization import Prediction
from ddpm.model import build
from ddpm.model.layers import dropout_purposes, hidden_weights, key_dropout, recompute_blocks, spanned
from ddpm.model.model_file import save_model
from ddpm.training import optimizer, teacher
from ddpm.training.augmentation import augment
from ddpm.training.batches import Batches
from ddpm.training.checkpoints import PARTS, Checkpoints, interruptible, prefixed, under
from ddpm.training.ema import EMA
from ddpm.training.history import History, Row
from ddpm.training.power_averages import PowerAverages
from ddpm.training.snapshots import Snapshots
from ddpm.training.train_params import TrainingConfig


class Log(Protocol):
    """Where the curve goes during training: rows are buffered, and sent after each checkpoint."""

    def log(self, row: Row) -> None: ...

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
    grids, averages, points = (checkpoints.folder / name for name in PARTS)
    watched = [watch(trainer, grids) for watch in watches]
    snapshots = Snapshots(config, trainer.total, points)
    facts: dict[str, Any] = {"precision": devices.precision_name(trainer.dtype), **teacher.facts(trainer.teacher)}
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
                    snapshots.keep(step, trainer.ema.averages, facts)
                    trainer.posthoc.keep(step, averages)
                stopped = ranks.largest(signals[0] if signals else 0)  # all ranks stop after the same step
                if stopped or step % options.checkpoint_every == 0:
                    state = trainer.state() | prefixed("history.", history.state(step))
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
            save_model(out / "model.safetensors", trainer.ema.averages, config, {"steps": trainer.total, **facts})
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
        options, shape = config.train, config.data.shape
        self.batch_size = options.batch_size
        options.check_ranks(ranks.size)
        if options.deterministic:
            devices.make_deterministic(device)
        self.seed = config.seed
        torch.manual_seed(noise.stream_seed(config.seed, "weights"))
        self.config = config
        self.device = device
        self.ranks = ranks
        self.total = options.total(len(pictures))
        self.epoch_steps = len(pictures) / self.batch_size
        self.shape = shape
        self.layout = torch.channels_last if options.channels_last else torch.contiguous_format
        network = build.network(config).train().to(device)
        self.network = network.to(memory_format=self.layout)  # type: ignore[call-overload, unused-ignore]  # torch < 2.15
        self.teacher = teacher.read(config)
        if self.teacher:
            fresh = teacher.start(self.network, self.teacher, config)
            if fresh and ranks.main:
                print(f"train.start_from: left at their init: {', '.join(fresh)}", file=sys.stderr)
            if config.diffusion.loss.needs_teacher:
                self.teacher.network.to(device)
        if options.checkpoint_activations:
            recompute_blocks(self.network)
        compiled = devices.compiles(device) if options.compile == "auto" else options.compile
        forward: nn.Module = torch.compile(self.network) if compiled else self.network  # type: ignore[assignment]
        self.forward = ranks.parallel(forward)
        self.dtype = devices.precision(options.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        features: Any = self.network.time_features
        self.condition = options.augmentation.layer(features)
        # learned along with the network; in no average and no model file
        self.auxiliary = nn.ModuleList([self.condition] if self.condition else []).to(device)
        self.parameters = [*self.network.parameters(), *self.auxiliary.parameters()]
        self.optimizer = options.optimizer.over(self.parameters, hidden_weights(self.network), options.learning_rate)
        self.ema = EMA(self.network, options.ema.decay)
        self.posthoc = PowerAverages(self.network, config, self.total)
        self.chain = Chain(config.diffusion.schedule.noise_schedule(config.diffusion.T), device)
        self.timesteps = options.timestep_sampler.state(self.chain.schedule, device)
        self.dropout = noise.streams(self.seed, dropout_purposes(self.network), device)
        self.whole = torch.arange(self.batch_size, device=device)
        self.share = ranks.share(self.batch_size)
        self.parts = torch.arange(self.share.stop - self.share.start, device=device).tensor_split(options.accumulate)
        self.firsts = list(accumulate(map(len, self.parts[:-1]), initial=self.share.start))
        flip = options.horizontal_flip
        self.batches = Batches(pictures, self.batch_size, config.seed, flip, device, self.share, None, labels)

    def step(self, step: int) -> tuple[Tensor, Tensor]:
        """One step of Algorithm 1, from images to new averages. Each rank learns from its share of the batch.

        Returns the loss and the gradient's norm of the whole batch, scalars on the device: nothing waits for them.
        """
        diffusion, options, seed, place = self.config.diffusion, self.config.train, self.seed, self.batches.place
        T, parameterization, variance = diffusion.T, diffusion.parameterization, diffusion.variance
        objective, every = diffusion.loss, diffusion.loss.every
        x_0, condition = augment(options.augmentation, self.batches(step), seed, place, step)  # line 2
        labels, words = self.labels(step), noise.words(self.dropout, place, step)
        uniform = partial(self.uniform, step)
        t, weight = options.timestep_sampler.draw(uniform("timestep"), T, self.timesteps)  # line 3, of all ranks
        t, s = objective.times(t, (self.whole + step) % every == 0, T, uniform)
        share_t, share_s = t[self.share], s[self.share]
        share_weight = weight[self.share] * (self.ranks.size / self.batch_size)
        epsilon = noised = noise.gaussian(seed, "train", place, step, self.shape)  # line 4
        if gamma := options.input_perturbation:
            noised = epsilon + gamma * noise.gaussian(seed, "perturbation", place, step, self.shape)
        losses = []
        for first, part in zip(self.firsts, self.parts, strict=True):  # line 5, from here on
            at = self.chain.at(share_t[part])
            x_t = q_sample(x_0[part], noised[part], at).contiguous(memory_format=self.layout)
            t_part, s_part = share_t[part], share_s[part]
            answer = partial(self.answer, labels, condition, words, part)
            taught = partial(self.taught, labels, part)
            lesson = Lesson(x_0[part], epsilon[part], x_t, t_part, s_part, self.chain, parameterization, answer, taught)
            truth = objective.truth(lesson, slice(-(first + step) % every, None, every), (step - 1) / self.total)
            shown = self.shown(labels, condition, part, t_part - s_part)
            inputs = parameterization.network_input(x_t, at), objective.clock(t_part, T), *shown
            key_dropout(self.network, words[:, part])
            with nullcontext() if part is self.parts[-1] else self.ranks.alone(self.forward):
                with devices.autocast(self.dtype, self.device):
                    output = self.forward(*inputs)
                output, spread = variance.split(output.float())
                loss = objective(Denoised(output, spread, *truth, x_t, at, T, parameterization, variance))
                self.scaler.scale((share_weight[part] * loss).sum()).backward()
            losses.append(loss.detach())
        loss = self.ranks.gather(torch.cat(losses), self.batch_size)
        options.timestep_sampler.update(self.timesteps, t, loss)
        for parameter in self.auxiliary.parameters():  # the network's gradients are averaged by its own backward pass
            if (gradient := parameter.grad) is not None:
                parameter.grad = self.ranks.gather(gradient[None], self.ranks.size).mean(dim=0)
        self.scaler.unscale_(self.optimizer)
        norm = get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if options.gradient_clip is not None:
            clip_grads_with_norm_(self.parameters, options.gradient_clip, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = options.rate(step, self.total)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        for ema in (self.ema, *self.posthoc.emas):
            ema.update(step)
        options.optimizer.average(self.optimizer, list(self.ema.averages.values()))
        return (weight * loss).mean(), norm

    def labels(self, step: int) -> Tensor | None:
        """(B,) int64, what the network is shown as the images' classes; None if it has none.

        Some are "no class", so that one network learns both what guidance needs. Ho & Salimans 2022
        (arXiv:2207.12598), Algorithm 1.
        """
        labels = self.batches.labels(step)
        if labels is None:
            return None
        drawn = noise.uniform(self.seed, "label", self.batches.place, step)
        return labels.masked_fill(drawn < self.config.train.label_dropout, self.config.model.classes)

    def uniform(self, step: int, purpose: str) -> Tensor:
        """(B,) draws in [0, 1), of all ranks."""
        return noise.uniform(self.seed, purpose, self.whole, step)

    def shown(
        self, labels: Tensor | None, condition: Tensor | None, part: Tensor, span: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """What the network is shown of those images besides x_t and t: their classes, and a condition: how they were
        augmented, and the span t - s."""
        augmented = None if self.condition is None or condition is None else self.condition(condition[part])
        end = spanned(self.network, self.config.diffusion.loss.clock(span, len(self.chain)))
        shown = end if augmented is None else augmented if end is None else augmented + end
        return None if labels is None else labels[part], shown

    def answer(
        self,
        labels: Tensor | None,
        condition: Tensor | None,
        words: Tensor,
        part: Tensor,
        rows: slice,
        x: Tensor,
        t: Tensor,
        span: Tensor,
        precise: bool = False,
    ) -> Tensor:
        """What ``Lesson.network`` says, for rows of a part."""
        index = part[rows]
        key_dropout(self.network, words[:, index])
        with devices.autocast(torch.float32 if precise else self.dtype, self.device):
            clock = self.config.diffusion.loss.clock(t, len(self.chain))
            output = self.network(x, clock, *self.shown(labels, condition, index, span))
        return self.config.diffusion.variance.split(output.float())[0]

    def taught(self, labels: Tensor | None, part: Tensor, rows: slice, x: Tensor, t: Tensor) -> Prediction:
        """What ``Lesson.teacher`` says, for rows of a part."""
        shown = None if labels is None else labels[part[rows]]
        # without a teacher Config refuses a loss that asks it
        return teacher.estimate(self.teacher, x, t, shown, self.chain.at(t), self.dtype)  # type: ignore[arg-type]

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on; random numbers are functions of the step and need no state."""
        tensors = prefixed("network.", self.network.state_dict()) | prefixed("ema.", self.ema.averages)
        tensors |= prefixed("posthoc.", self.posthoc.averages) | prefixed("timesteps.", self.timesteps)
        tensors |= prefixed("auxiliary.", self.auxiliary.state_dict())
        tensors |= prefixed("optimizer.", optimizer.state(self.optimizer))
        if self.scaler.is_enabled():
            scaler = self.scaler.state_dict()
            tensors["scaler"] = torch.tensor([scaler["scale"], scaler["_growth_tracker"]], dtype=torch.float64)
        return tensors

    def resume(self, checkpoints: Checkpoints, history: History) -> int:
        """Load the newest checkpoint; returns its number of steps, 0 without one."""
        loaded = checkpoints.load(self.device, self.ranks)
        if loaded is None:
            return 0
        tensors, step = loaded
        self.network.load_state_dict(under("network.", tensors))
        for prefix, averages in (("ema.", self.ema.averages), ("posthoc.", self.posthoc.averages)):
            for name, value in under(prefix, tensors).items():
                averages[name].copy_(value)
        self.timesteps = under("timesteps.", tensors)
        self.auxiliary.load_state_dict(under("auxiliary.", tensors))
        optimizer.restore(self.optimizer, under("optimizer.", tensors))
        if self.scaler.is_enabled():
            scale, growth = tensors["scaler"].tolist()
            self.scaler.load_state_dict({**self.scaler.state_dict(), "scale": scale, "_growth_tracker": int(growth)})
        history.restore(under("history.", tensors))
        if self.ranks.main:
            print(f"resuming after step {step} of {self.total}", file=sys.stderr)
        return step
