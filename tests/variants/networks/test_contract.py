"""What every architecture guarantees: a new file in ddpm/variants/networks/ is covered as soon as it exists."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ddpm.base.sections import Shape
from ddpm.model.layers import dropout_layers, recompute_blocks
from tests.networks import SHAPES, SMALL, architecture, awake

SIZE = 16


def network(name: str, fields: dict, channels: int = 3, outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return architecture(name, **fields).network(Shape(channels, SIZE, SIZE), outputs)


def batch(channels: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, channels, SIZE, SIZE), torch.tensor([3, 900])


@SHAPES
@settings(max_examples=15)
@given(data=st.data(), channels=st.integers(1, 5), rows=st.integers(1, 5), columns=st.integers(1, 5))
def test_an_image_of_any_shape_goes_in_and_the_outputs_asked_for_come_out(name, fields, data, channels, rows, columns):
    factor = 4 if name in SMALL else 8  # of patches, or of levels
    height, width, outputs = factor * rows, factor * columns, channels * data.draw(st.sampled_from([1, 2]))
    if "attention_sizes" in fields:
        fields = {**fields, "attention_sizes": (height // data.draw(st.sampled_from([1, 2])),)}
    made = awake(architecture(name, **fields).network(Shape(channels, height, width), outputs)).eval()
    out = made(torch.randn(2, channels, height, width), torch.tensor([1, 1000]))
    assert (out.shape, out.dtype) == ((2, outputs, height, width), torch.float32)
    assert out.isfinite().all()


ZEROED = [(name, fields) for name in SMALL for fields in SMALL[name] if name != "uvit"]  # which zeroes no layer


@pytest.mark.parametrize(("name", "fields"), ZEROED)
def test_the_output_is_zero_when_freshly_made_as_the_papers_say(name, fields):
    assert not network(name, fields)(*batch()).any()


@SHAPES
def test_evaluation_is_deterministic_and_each_image_and_its_time_stand_alone(name, fields):
    made = awake(network(name, fields)).eval()
    x, t = batch()
    out = made(x, t)
    assert torch.equal(out, made(x, t))
    alone = torch.cat([made(x[i : i + 1], t[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(out, alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(made(x, t.flip(0)), out, rtol=0, atol=1e-5), "time must matter"


@SHAPES
def test_a_class_matters_none_is_the_last_and_without_classes_there_are_no_weights(name, fields):
    torch.manual_seed(0)
    made = awake(architecture(name, **fields).network(Shape(3, SIZE, SIZE), 3, 5)).eval()
    nn.init.normal_(made.classes.weight, std=10)  # some papers start so small that float32 hardly shows it
    x, t = batch()
    outs = [made(x, t, torch.tensor([label, label])) for label in range(6)]
    assert min(float((one - other).abs().max()) for one, other in itertools.combinations(outs, 2)) > 1e-4
    assert torch.equal(made(x, t), outs[5])
    mixed = made(x, t, torch.tensor([2, 4]))
    torch.testing.assert_close(mixed, torch.stack([outs[2][0], outs[4][1]]), rtol=1e-4, atol=1e-5)
    plain = network(name, fields)
    assert made.state_dict().keys() - plain.state_dict().keys() == {"classes.weight"}
    assert torch.equal(plain(x, t, torch.tensor([2, 4])), plain(x, t))


@SHAPES
def test_recomputed_activations_give_the_same_gradients(name, fields):
    """To the bit, with dropout by key."""
    if "dropout" in type(architecture(name, **fields)).model_fields:
        fields = {**fields, "dropout": 0.5}
    words = torch.randint(-(2**31), 2**31, (100, 2, 2), dtype=torch.int32)
    found = []
    for recompute in (False, True):
        made = awake(network(name, fields))
        if recompute:
            recompute_blocks(made)
        for layer, keys in zip(dropout_layers(made).values(), words, strict=False):
            layer.keys = keys
        out = made(*batch())
        out.square().sum().backward()
        found.append([out, *(parameter.grad for parameter in made.parameters())])
    assert all(map(torch.equal, *found))


@SHAPES
def test_the_seed_makes_the_weights_the_state_holds_them_all_and_the_gradient_reaches_each(name, fields):
    made, again = awake(network(name, fields)), awake(network(name, fields))
    state, parameters = made.state_dict(), dict(made.named_parameters())
    assert state.keys() == parameters.keys(), "EMA averages no buffers"
    assert all(torch.equal(state[key], value) for key, value in again.state_dict().items())
    made(*batch()).square().sum().backward()
    assert [key for key, value in parameters.items() if value.grad is None or not value.grad.any()] == []


@pytest.mark.parametrize(("name", "fields", "image_size", "named"), [
    ("unet", {"multipliers": (1, 2), "attention_sizes": ()}, (16, 17), "multipliers"),
    ("dit", {"patch_size": 4}, (16, 18), "patch_size"), ("uvit", {"patch_size": 4}, (16, 18), "patch_size"),
    ("unet", {"base_channels": 48, "multipliers": (1,), "attention_sizes": ()}, 16, "groups"),
    ("unet", {"multipliers": (1, 2), "attention_sizes": (7,)}, 16, "attention_sizes"),
    ("unet", {"multipliers": (1, 2), "attention_head_width": 48}, 16, "attention_head_width"),
    ("edm2", {"attention_sizes": ()}, (16, 18), "multipliers"), ("edm2", {"head_width": 48}, 16, "head_width"),
    ("dit", {"width": 384, "heads": 5}, 16, "heads"),
])  # fmt: skip
def test_an_impossible_shape_is_refused_by_its_fields_name(name, fields, image_size, named):
    with pytest.raises(ValueError, match=f"^{named}"), torch.device("meta"):
        architecture(name, **fields).network(Shape.of(3, image_size), 3)


ADM = {"base_channels": 256, "attention_sizes": (32, 16, 8), "attention_head_width": 64, "scale_shift_norm": True,
       "resample": "residual"}  # fmt: skip
EDM2_LEVELS = {"multipliers": (1, 2, 3, 4), "attention_sizes": (16, 8)}
# name, fields, image, outputs, classes, millions of parameters
PUBLISHED = [
    ("unet", {}, (3, 32), 3, 0, 35.746307),  # Ho et al. 2020, appendix B: 35.7
    # Dhariwal & Nichol 2021: the released unconditional 256x256 model, and the table's conditional one of 128x128
    ("unet", ADM | {"multipliers": (1, 1, 2, 2, 4, 4)}, (3, 256), 6, 0, 552.814086),
    ("unet", ADM | {"multipliers": (1, 1, 2, 3, 4)}, (3, 128), 6, 1000, 422),
    ("dit", {}, (4, 32), 8, 1000, 33),  # S/2
    ("dit", {"depth": 28, "width": 1152, "heads": 16}, (4, 32), 8, 1000, 675),  # XL/2
    ("uvit", {}, (3, 32), 3, 0, 44),  # S/2 for CIFAR-10
    ("uvit", {"depth": 20, "width": 1024, "heads": 16, "patch_size": 4}, (3, 64), 3, 1000, 287),  # L/4
    ("edm2", {"base_channels": 128, **EDM2_LEVELS}, (4, 64), 4, 1000, 124),  # XS for latents of ImageNet-512
    ("edm2", {"base_channels": 256, **EDM2_LEVELS}, (4, 64), 4, 1000, 498),  # M
]


@pytest.mark.parametrize(("name", "fields", "image", "outputs", "classes", "millions"), PUBLISHED)
def test_parameters_are_the_papers(name, fields, image, outputs, classes, millions):
    with torch.device("meta"):
        made = architecture(name, **fields).network(Shape.of(*image), outputs, classes)
    found = sum(parameter.numel() for parameter in made.parameters()) / 1e6
    assert found == pytest.approx(millions, abs=1 if isinstance(millions, int) else 1e-9)
