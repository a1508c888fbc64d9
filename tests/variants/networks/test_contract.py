"""What every architecture guarantees: a new file in ddpm/variants/networks/ is covered as soon as it exists."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ddpm.base.sections import Shape
from ddpm.model.layers import dropout_layers, recompute_blocks
from tests.command import imported
from tests.networks import SHAPES, SMALL, architecture, awake

NOT_ZERO = {"uvit"}  # whose paper zeroes no layer

SIZE = 16


def network(name: str, fields: dict, channels: int = 3, outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return architecture(name, **fields).network(Shape(channels, SIZE, SIZE), outputs)


def batch(channels: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, channels, SIZE, SIZE), torch.tensor([3, 900])


def test_an_outline_imports_no_compiler():
    code = f"""
from ddpm.model import build
from tests.networks import SMALL
from tests.small import small
for name, (fields, *_) in SMALL.items():
    build.outline(small(model={{"name": name, name: fields, "classes": 3}}, data={{"image_size": {SIZE}}}).training())
"""
    assert not imported("-c", code) & {"torch._dynamo", "sympy"}


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


@pytest.mark.parametrize("sides", [(1, 2), (3, 7)])
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("unet", {"base_channels": 8, "multipliers": (1,), "attention_sizes": (), "groups": 4}),
        ("dit", {"patch_size": 1, "depth": 1, "width": 8, "heads": 1}),
        ("uvit", {"patch_size": 1, "depth": 2, "width": 8, "heads": 1}),
        ("edm2", {"base_channels": 8, "multipliers": (1,), "attention_sizes": (), "head_width": 8}),
    ],
)
def test_images_of_a_few_pixels_can_be_learned(name, fields, sides):
    torch.manual_seed(0)
    made = architecture(name, **fields).network(Shape(1, *sides), 1)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.03)
    x, t = torch.randn(1, 1, *sides), torch.tensor([5])
    for _ in range(25):
        optimizer.zero_grad()
        (made(x, t) - x).square().mean().backward()
        optimizer.step()
    assert (made(x, t) - x).square().mean() < 0.3 * x.square().mean()


@pytest.mark.parametrize(
    ("name", "fields"), [(name, fields) for name in SMALL if name not in NOT_ZERO for fields in SMALL[name]]
)
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
def test_the_gradient_reaches_every_parameter(name, fields):
    made = awake(network(name, fields))
    made(*batch()).square().sum().backward()
    assert [key for key, value in made.named_parameters() if value.grad is None or not value.grad.any()] == []


@SHAPES
def test_zero_initialised_parameters_wake_up_by_training(name, fields):
    made = network(name, fields)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        (made(*batch()) - 1).square().mean().backward()
        optimizer.step()
    assert [key for key, parameter in made.named_parameters() if not parameter.any()] == []


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
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_recomputed_activations_give_the_same_gradients_from_less_memory(name, fields, dropout):
    """To the bit, with dropout by key and without."""
    if dropout:
        if "dropout" not in type(architecture(name, **fields)).model_fields:
            pytest.skip("this architecture has no dropout")
        fields = {**fields, "dropout": dropout}
    words = torch.randint(-(2**31), 2**31, (100, 2, 2), dtype=torch.int32)
    found = []
    for recompute in (False, True):
        made = awake(network(name, fields))
        if recompute:
            recompute_blocks(made)
        for layer, keys in zip(dropout_layers(made).values(), words, strict=False):
            layer.keys = keys
        parameters = {parameter.untyped_storage().data_ptr() for parameter in made.parameters()}
        kept: dict[int, int] = {}

        def pack(tensor: Tensor, parameters: set[int] = parameters, kept: dict[int, int] = kept) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in parameters:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = made(*batch())
        out.square().sum().backward()
        found.append((out, {key: parameter.grad for key, parameter in made.named_parameters()}, sum(kept.values())))
    (plain, gradients, memory), (again, others, less) = found
    assert torch.equal(plain, again)
    assert gradients.keys() == others.keys()
    assert all(torch.equal(gradients[key], others[key]) for key in gradients)
    assert less < memory / 2


@SHAPES
def test_the_same_seed_makes_the_same_weights_and_the_state_holds_them_all(name, fields):
    first, second = network(name, fields), network(name, fields)
    state = first.state_dict()
    assert set(state) == {key for key, _ in first.named_parameters()}, "EMA averages no buffers"
    assert all(torch.equal(state[key], value) for key, value in second.state_dict().items())


@pytest.mark.parametrize(
    ("name", "fields", "image_size", "named"),
    [
        ("unet", {"multipliers": (1, 2), "attention_sizes": ()}, (16, 17), "multipliers"),
        ("unet", {"multipliers": (1, 2), "attention_sizes": (12,)}, (16, 24), "attention_sizes"),
        ("unet", {"base_channels": 8, "multipliers": (1,), "attention_sizes": (), "groups": 8}, (1, 1), "groups"),
        ("dit", {"patch_size": 4}, (16, 18), "patch_size"),
        ("dit", {"patch_size": 4}, (18, 16), "patch_size"),
        ("uvit", {"patch_size": 4}, (16, 18), "patch_size"),
        ("uvit", {"patch_size": 4}, (18, 16), "patch_size"),
        ("unet", {"base_channels": 48, "multipliers": (1,), "attention_sizes": ()}, 16, "groups"),
        ("unet", {"multipliers": (1, 2), "attention_sizes": (7,)}, 16, "attention_sizes"),
        ("unet", {"patch_size": 3, "multipliers": (1, 2), "attention_sizes": ()}, 16, "multipliers: .* patch_size: 3"),
        ("unet", {"multipliers": (1, 2), "attention_heads": 3}, 16, "attention_heads"),
        ("unet", {"multipliers": (1, 2), "attention_head_width": 48}, 16, "attention_head_width"),
        ("edm2", {"attention_sizes": ()}, (16, 18), "multipliers"),
        ("edm2", {"attention_sizes": ()}, (18, 16), "multipliers"),
        ("edm2", {"attention_sizes": (7,)}, 16, "attention_sizes"),
        ("edm2", {"head_width": 48}, 16, "head_width"),
        ("uvit", {"width": 512, "heads": 5}, 16, "heads"),
        ("dit", {"width": 390, "heads": 6}, 16, "width"),
        ("dit", {"width": 384, "heads": 5}, 16, "heads"),
    ],
)
def test_an_impossible_shape_is_refused_by_its_fields_name(name, fields, image_size, named):
    with pytest.raises(ValueError, match=f"^{named}"), torch.device("meta"):
        architecture(name, **fields).network(Shape.of(3, image_size), 3)
