"""The variants shown in docs/variants.md work, as if their files existed."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ddpm.base import variant as variants
from ddpm.base.sections import Shape
from ddpm.diffusion.schedule import Schedule
from ddpm.model.architecture import Architecture
from ddpm.model.model_file import load_model
from ddpm.sampling import generator as sampling
from ddpm.sampling.sample_params import Sample
from ddpm.sampling.sampler import Sampler
from tests.test_docs import blocks

FILES = [block for block in blocks() if block.language == "python" and block.page != "tutorial.md"]
EXAMPLES = [block for block in FILES if "/variants/" in block.mark]
MODULES = [block for block in FILES if block not in EXAMPLES]


@pytest.fixture(params=EXAMPLES, ids=lambda block: block.mark)
def example(request, monkeypatch) -> type[variants.Variant]:
    """The variant that a block defines, as if its file existed."""
    family, name = request.param.mark.removeprefix("file: ddpm/variants/").removesuffix(".py").split("/")
    with_module = [block for block in MODULES if f"/{name}_" in block.mark]
    for block in (request.param, *with_module):
        path = block.mark.removeprefix("file: ").removesuffix(".py")
        module = ModuleType(path.replace("/", "."))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(block.text, path, "exec"), module.__dict__)  # noqa: S102
    module = sys.modules[f"ddpm.variants.{family}.{name}"]
    assert name not in variants.names(family), f"{name} is no example any more"
    assert 20 < len((module.__doc__ or "").split("\n\n")[0]) < 250
    return variants.variant_class(family, name)


def test_an_example_works(example, tmp_path, model_file):
    variant = example()
    (contract,) = [contract for contract in WORKS if isinstance(variant, contract)]
    WORKS[contract](variant, tmp_path, model_file)


def schedule_works(variant: Schedule, tmp_path: Path, model_file: Path) -> None:
    for T in (10, 1000):
        chain = variant.noise_schedule(T)
        assert len(chain) == T
        assert np.all(np.diff(chain.log_snr) < 0)
    with pytest.raises(ValidationError, match="must be more than"):
        type(variant)(first=-1.0, last=1.0)  # type: ignore[call-arg]


def sampler_works(variant: Sampler, tmp_path: Path, model_file: Path) -> None:
    cpu = torch.device("cpu")
    options = Sample(count=4, sampler=variant, steps=8, precision="float32")
    generator = sampling.Generator.of(load_model(model_file, cpu), options, cpu)
    alone, together = (generator.images(indices, 0, (1, 8, 8)) for indices in ([2], range(4)))
    assert (alone[0].int() - together[2].int()).abs().max() <= 1
    assert len({image.numpy().tobytes() for image in together}) == 4


def architecture_works(variant: Architecture, tmp_path: Path, model_file: Path) -> None:
    network = variant.network(Shape(1, 8, 8), 2)
    assert network(torch.randn(3, 1, 8, 8), torch.tensor([1, 2, 3])).shape == (3, 2, 8, 8)


WORKS: dict[type, Any] = {
    Schedule: schedule_works,
    Sampler: sampler_works,
    Architecture: architecture_works,
}


def test_there_is_an_example_of_each_kind():
    families = {block.mark.split("/")[2] for block in EXAMPLES}
    assert families == {"schedules", "samplers", "networks"}
    assert Architecture in WORKS
