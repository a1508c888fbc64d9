"""A program's part of a question: what is refused, and how a command is filled."""

import pytest
import yaml

from ddpm.base import sections
from ddpm.base.errors import UserError
from ddpm.params import file
from ddpm.programs.program import Program

PROGRAM = {
    "question": "Which rate?", "run": "python train.py --seed {seed} --lr {lr}", "read": "val_loss", "better": "lower",
    "values": {"lr": 1e-3},
}  # fmt: skip


def program(**changes: object) -> Program:
    text = yaml.safe_dump(PROGRAM | changes)
    return sections.parse(file.decode(text, "q.yaml"), "q.yaml", Program)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run", "python train.py 'open"),
        ("run", "python train.py {lr} {width}"),
        ("run", "python train.py"),
        ("read", "val loss ([0-9.]+"),
        ("read", {"file": "../out.json", "key": "val"}),
        ("read", {"file": ".git/config", "key": "val"}),
        ("values", {"lr": 1e-3, "seed": 3}),
        ("values", {"lr": "a\0b"}),
        ("guards", {"val_loss": "lower"}),
        ("margins", {"loss": 0.1}),
        ("links", ["/data"]),
        ("rnu", "python train.py"),
    ],
)
def test_a_mistake_names_its_key(key, value):
    with pytest.raises(UserError, match=rf"^q\.yaml: {key}(\.[a-z0-9_]+)*: "):
        program(**{key: value})


@pytest.mark.parametrize(
    "value", ["1 --delete all", "'; rm -rf / #", "$(touch gone)", '" "', "{seed}", "a  b", "--lr", "", "é"]
)
def test_a_value_fills_a_part_of_one_word(value):
    words = program(run="train --lr={lr} {seed}").fill({"lr": value}, 7)
    assert words == ["train", f"--lr={value}", "7"]


def test_values_are_spelled_as_in_yaml_and_braces_of_another_language_stay():
    one = program(run="a '{\"lr\": {lr}}' {b} {c}", values={"lr": 1e-3, "b": True, "c": 3})
    assert one.fill({"b": False}, 0) == ["a", '{"lr": 0.001}', "false", "3"]
