"""Records are found wherever they are, once each, and matched by their params."""

from pathlib import Path

import pytest
import yaml

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.paths import RUN, SCORED
from ddpm.params.inputs import Start
from ddpm.runs import alike, library
from tests.scored import params, record, result, working, write

BY = ("diffusion.schedule.name",)


@pytest.fixture(autouse=True)
def _repository(folder) -> None:
    """Without a commit."""
    record(folder)


def names(listing) -> list[str]:
    return [run.name for run in listing.records]


def test_runs_come_from_experiments_the_working_folder_and_folders_oldest_first(folder):
    experiment = result("linear", 3, 0.5, when=2)
    record(folder, [experiment])
    write(result(seed=5, when=3))
    for place, when in ((SCORED, 1.0), (Path("theirs"), 4.0)):
        place.mkdir(parents=True)
        (place / "one.json").write_text(result(seed=7, name=str(place), when=when).text())
    assert names(library.everywhere()) == ["linear-3", "workspace", str(SCORED)]
    listing = library.everywhere([Path("theirs")])
    assert experiment in listing.records
    assert (names(listing)[3:], listing.notes) == (["theirs"], ())
    with pytest.raises(UserError, match="nowhere: no such folder"):
        library.everywhere([Path("nowhere")])


def test_equal_content_counts_once(folder):
    run = result()
    record(folder, [run, run.model_copy(update={"name": "again"}), result(fd=2.0, name="other")])
    write(run)
    assert sorted(names(library.everywhere())) == ["again", "other"]


def test_a_listing_goes_on_without_what_is_not_a_record(folder):
    damaged = {"broken": "{", "changed": result().text().replace('"samples":12', '"samples":13'), "empty": ""}
    record(folder, [result(name="whole"), *((name, {str(RUN): text}) for name, text in damaged.items())])
    place = Path("records")
    place.mkdir()
    for name, text in damaged.items():
        (place / f"{name}.json").write_text(text)
    (place / "a-folder.json").mkdir()
    (place / "million.json").write_text("{" + " " * 10**6)
    (place / "fine.json").write_text(result(seed=1).text())
    listing = library.everywhere([place])
    assert sorted(names(listing)) == ["cosine-1", "whole"]
    assert len(listing.notes) == 8
    for name in (*damaged, "a-folder.json", "million.json"):
        assert any(name in note for note in listing.notes)


def test_a_record_of_other_params_or_code_is_stale(folder):
    Path("ddpm").mkdir()
    Path("ddpm/loss.py").write_text("one")
    run = result(code={"ddpm/loss.py": files.md5(Path("ddpm/loss.py"))[:12]})
    flat = working().flat()
    assert library.why_stale(run, flat) == ""
    assert library.why_stale(run, flat | {"device": "cuda", "compare.threshold": 0.1, "gate.metrics": "fd"}) == ""
    assert library.why_stale(run, flat | {"train.steps": 11}).startswith("train.steps was 12, and is 11")
    assert library.why_stale(run, {key: value for key, value in flat.items() if key != "seed"}).startswith("seed was 0")
    assert "not known" in library.why_stale(result(code={}), flat)
    assert not library.is_checked_out(result(code={}))
    write(run)
    assert library.current(working()).name == "workspace"
    for change in (lambda: Path("ddpm/loss.py").write_text("two"), lambda: Path("ddpm/loss.py").unlink()):
        change()
        assert "ddpm/loss.py has changed" in library.why_stale(run, flat)
        with pytest.raises(UserError, match=r"`dvc repro`"):
            library.current(working())


def test_a_run_is_credited_to_the_code_of_the_stages_that_made_its_model(folder):
    model, samples = Path("data/model/model.safetensors"), Path("data/samples")
    for path, text in {"ddpm/train.py": "it trained", model: "weights", samples / "samples.npy": "images"}.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    Path("params.yaml").write_text(yaml.safe_dump(params()))
    deps = [{"path": "ddpm/train.py", "md5": "1" * 32}, {"path": "data/processed", "md5": "2" * 32}]
    train = {"cmd": "true", "deps": deps, "outs": [{"path": str(model), "md5": files.md5(model)}]}
    sample = {"outs": [{"path": str(samples), "md5": files.md5(samples)}]}
    evaluate = {"cmd": "true", "deps": ["ddpm/score.py", str(model)]}
    Path("ddpm/score.py").write_text("it scores")
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": {"cmd": "true"}, "evaluate": evaluate}}))
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"train": train, "sample": sample}}))
    start = Start("evaluate", params(), {}, {})
    flat, code = library.provenance(start)
    assert flat == library.relevant(working().flat())
    assert code == {"ddpm/train.py": "1" * 12, "ddpm/score.py": files.md5(Path("ddpm/score.py"))[:12]}
    for made in (samples / "samples.npy", model):
        before = made.read_text()
        made.write_text("of a stage that was run by hand")
        assert library.provenance(start) == (flat, {})
        made.write_text(before)


def matching(*runs, by: tuple[str, ...] = (), **changes):
    return alike.matching(runs, working(**changes), by)


def test_runs_of_the_working_params_match_whatever_their_seed_and_mechanics_and_what_varies():
    mechanical = {"device": "cuda", "sample__batch_size": 7, "train__checkpoint_every": 1, "data__source": "elsewhere"}
    unused = {"diffusion__schedule": {"name": "cosine", "linear": {"beta_end": 0.01}}, "model__dit": {"depth": 2}}
    mild = result("linear", params={"diffusion__schedule": {"name": "linear", "linear": {"beta_end": 0.01}}})
    runs = [result(seed=2), result(seed=1, params=mechanical), result(seed=3, params=unused), mild]
    found = matching(*runs)
    assert [run.seed for run in found.records] == [1, 2, 3]
    assert found.notes == ()
    assert mild in matching(*runs, by=BY).records


def test_of_a_program_only_the_params_that_are_known_have_to_match():
    program = result(program="python theirs.py")
    assert "train.steps" not in program.params
    assert matching(program, train__steps=7).records == (program,)
    with pytest.raises(UserError, match=r"differs in sample.count \(12 there, 13 here\)"):
        matching(program, sample__count=13)


@pytest.mark.parametrize("order", [1, -1])
def test_of_runs_with_the_same_params_one_of_the_checked_out_code_is_taken_or_the_newest(folder, order):
    old, new = result(fd=1, when=1, name="old"), result(fd=2, when=2, name="new")
    found = matching(*[old, new][::order])
    assert found.records == (new,)
    assert "old, new" in found.notes[0]
    same = matching(*[result(when=1, name="old"), result(when=2, name="new")][::order])
    assert (names(same), same.notes) == (["new"], ())
    Path("ddpm").mkdir()
    Path("ddpm/noise.py").write_text("checked out")
    ours = old.model_copy(update={"code": {"ddpm/noise.py": files.md5(Path("ddpm/noise.py"))[:12]}})
    assert matching(*[ours, new][::order]).records == (ours,)
