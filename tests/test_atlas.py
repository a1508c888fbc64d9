"""docs/atlas.md is made from the verdicts, and is current."""

from pathlib import Path

import pytest
import yaml

from ddpm.base.files import read_json
from docs import make_atlas

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)


def rows() -> dict[str, list[list[str]]]:
    names = sorted(path.parent.name for path in make_atlas.STUDIES.glob("*/verdict.json"))
    return {
        name: list(make_atlas.verdicts(name, read_json(make_atlas.STUDIES / name / "verdict.json"))) for name in names
    }


def test_the_page_is_current():
    assert make_atlas.PAGE.read_text() == make_atlas.page(make_atlas.read()), "run `python -m docs.make_atlas`"


def test_every_study_is_discussed_on_a_page():
    pages = "".join(path.read_text() for path in make_atlas.PAGE.parent.glob("atlas-*.md"))
    assert [name for name in rows() if f"studies/{name}/verdict.md" not in pages] == []


def test_every_verdict_is_that_of_its_study():
    for name, found in rows().items():
        lines = Path(f"metrics/studies/{name}/verdict.md").read_text().splitlines()
        for row in found:
            arm, effect, decided = row[2].split()[0], row[4], row[3].strip("*")
            line = next(line for line in lines if line.startswith(f"- {arm} is "))
            share = effect.rpartition(" (")[0].split()[-1].lstrip("+-")
            assert f"{share} {'higher' if '+' in effect else 'lower'}, {effect.partition('(')[2][:-1]} seeds" in line
            assert (f"{arm} is {decided}:" in line) == (decided != make_atlas.OPEN)


def test_every_study_has_a_claim_and_a_limit_and_what_is_said_of_all_holds():
    known = yaml.safe_load(make_atlas.CLAIMS.read_text())
    assert rows().keys() <= known.keys()
    for about in known.values():
        assert about.keys() == {"said", "limits"}
        assert about["limits"]
        assert about["said"]
        assert all(said.keys() == {"claim", "verdict"} for said in about["said"])
    data = {row[1] for found in rows().values() for row in found}
    assert data == {"digits 16x16", "mnist 28x28", "flowers 32x32"}, "the template speaks of them"
    assert all(int(row[-1].split()[2].replace(",", "")) < 10**6 for found in rows().values() for row in found)
