"""docs/by_size.py: how an effect changes with the size of the network."""

import json
import re
from pathlib import Path

import pytest

from ddpm.study import loading
from docs import by_size


@pytest.fixture
def judged(monkeypatch) -> dict[str, dict]:
    """Study -> its verdict; the working folder is the project's."""
    monkeypatch.chdir(Path(__file__).parents[2])
    return {path.parent.name: json.loads(path.read_text()) for path in Path().glob("metrics/studies/*/verdict.json")}


def test_the_page_quotes_how_many_signs_carry_over(judged):
    *_, note = by_size.parts(judged)
    counts = re.findall(r"\d+ of \d+", " ".join(note.text.split()))
    page = " ".join(Path("docs/atlas-size.md").read_text().split())
    assert counts
    assert all(count in page for count in counts)


def test_the_forecast_is_that_of_the_studies_and_of_every_arm_of_the_plan(judged):
    table = by_size.forecast(judged)
    assert table.strip() in Path("docs/atlas-size.md").read_text(), "run `python -m docs.by_size`"
    _, *arms = loading.load(Path("studies/forecast_cifar10.yaml")).arms
    assert sorted(arms) == sorted(re.findall(r"^\| (\w+) \| [+-]", table, re.M))
    chances = [int(chance) for chance in re.findall(r"(\d+)% \|$", table, re.M)]
    assert round(sum(chances) / 100) == 8  # as the page has it
