"""A step that is recorded as a CUDA graph, with a graph that the CPU can hold in place of the GPU's: what a record does
to a training, and to one that was stopped and resumed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ddpm.base.files import sha256
from ddpm.params.config import Config
from ddpm.training import trainer
from ddpm.training.captured import WARM_UP
from ddpm.training.checkpoints import Checkpoints, prefixed
from ddpm.training.history import History
from ddpm.training.trainer import Trainer, train
from tests.small import Memory, pictures, small

CPU = torch.device("cpu")


class Graph(TorchDispatchMode):
    """Operations and the places in memory of their tensors. Like a CUDA graph, it knows no variables: a tensor that
    takes another's place later has no part in it. And nothing has happened until it is replayed."""

    newest: Graph

    def __init__(self) -> None:
        super().__init__()
        Graph.newest = self
        self.operations: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.made: set[int] = set()  # places that it has itself
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # by any other place: what is there, and a copy of what was

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options = options or {}
        for given in tensors((arguments, options)):
            if place(given) not in self.made and place(given) not in self.before:
                whole = given.detach().as_strided((given.untyped_storage().nbytes() // given.itemsize,), (1,), 0)
                self.before[place(given)] = whole, whole.clone()
        found = function(*arguments, **options)
        self.operations.append((function, arguments, options, tensors(found)))
        self.made |= {place(made) for made in tensors(found)} - self.before.keys()
        return found

    @contextmanager
    def recording(self) -> Iterator[Self]:
        with self:
            yield self
        for now, before in self.before.values():
            now.copy_(before)

    @torch.no_grad()
    def replay(self) -> None:
        for function, arguments, options, places in self.operations:
            for own, made in zip(places, tensors(function(*arguments, **options)), strict=True):
                if own.data_ptr() != made.data_ptr():  # else it is a view, or was changed in place
                    own.copy_(made)


def tensors(values: object) -> list[Tensor]:
    return [each for each in tree_leaves(values) if isinstance(each, Tensor)]


def place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Stream:
    def __init__(self, *_: object) -> None: ...

    def wait_stream(self, other: Stream) -> None: ...


@pytest.fixture(autouse=True)
def _a_gpu_that_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(trainer, "check_possible", lambda *_: None)
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, Stream)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: graph.recording())


def config(recorded: bool = True, **options: Any) -> Config:
    """With all that a state can hold: what the network, its average and those of posthoc, the loss, the augmentation,
    the timestep sampler and the optimizer know."""
    return small(
        diffusion={"loss": {"name": "uncertainty"}},
        train={
            "cuda_graph": recorded,
            "timestep_sampler": {"name": "loss_second_moment"},
            "augmentation": {"name": "non_leaking"},
            "posthoc": {"snapshots": 4},
            **options,
        },
    )


def state(of: Trainer) -> dict[str, Tensor]:
    """The tensors that change, without copies: an optimizer's numbers are no tensors until they are saved."""
    return {name: value for name, value in of.state().items() if not name.startswith("optimizer.group.")}


def run(out: str, settings: Config, at: Callable[[Trainer, int], None] = lambda *_: None) -> dict[str, Tensor]:
    """Train in the folder ``out``; at: called after each step. Returns the last state."""
    last: dict[str, Tensor] = {}

    def preview(trained: Trainer, folder: Path) -> Callable[[int], None]:
        def after(step: int) -> None:
            last.update(state(trained))
            at(trained, step)

        return after

    train(settings.training(), pictures(), CPU, Path(out), Checkpoints(out), Memory(), [preview])
    return last


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_a_record_trains_what_training_without_one_does(name: str) -> None:
    options = {"optimizer": {"name": name}}
    torch.testing.assert_close(run("recorded", config(**options)), run("plain", config(recorded=False, **options)))


def left_out(of: Trainer) -> set[str]:
    """What the newest record neither reads nor changes of a trainer's state."""
    return {name for name, value in state(of).items() if place(value) not in Graph.newest.before}


@pytest.mark.parametrize("stop", [1, WARM_UP, WARM_UP + 1, 10])
def test_stopped_and_resumed_gives_the_same_bytes_and_the_record_has_what_was_loaded(stop: int) -> None:
    def stopping(trained: Trainer, step: int) -> None:
        if step == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    def held(trained: Trainer, step: int) -> None:
        if step > stop + WARM_UP:
            assert left_out(trained) == set()

    whole = run("whole", config(), held)
    with pytest.raises(SystemExit):
        run("stopped", config(), stopping)
    torch.testing.assert_close(run("stopped", config(), held), whole, rtol=0, atol=0)
    assert sha256(Path("stopped/model.safetensors")) == sha256(Path("whole/model.safetensors"))


def test_a_state_that_is_loaded_after_the_record_has_no_part_in_it() -> None:
    """So ``Trainer.resume`` comes before the first step, and the test above would see it if it did not."""
    trained = Trainer(config().training(), pictures(), CPU)
    checkpoints, history = Checkpoints("late"), History(trained.total, trained.batch_size, False)
    for step in range(1, WARM_UP + 2):
        history.add(step, *trained.step(step), 0.0)
    assert left_out(trained) == set()
    with checkpoints.locked():
        checkpoints.save(step, trained.state() | prefixed("history.", history.state(step)))
    trained.resume(checkpoints, history)
    assert {name.partition(".")[0] for name in left_out(trained)} == {"optimizer", "timesteps"}
