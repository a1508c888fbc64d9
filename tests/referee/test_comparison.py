"""Which runs may be compared, and what a comparison says of them."""

from collections.abc import Sequence

import pytest

from ddpm.base.errors import UserError
from ddpm.referee import comparison
from ddpm.runs.library import Listing
from ddpm.runs.record import Record
from ddpm.study import judging
from ddpm.verdicts import citation
from tests.scored import COSTS, result, study, working

FD, KID = "classifier.fd", "classifier.kid_mean"
BY = ("diffusion.schedule.name",)
SIX = range(6)
YARDSTICK = {f"yardsticks.gaussian.{FD}": 12.0, "yardsticks.gaussian.classifier.count": 720}


def runs(schedule: str, fd: float, seeds: Sequence[int] = SIX, **fields) -> list[Record]:
    return [result(schedule, seed, fd + 0.01 * seed + 0.001 * (seed * 7 % 5), **fields) for seed in seeds]


def compare(*records: Record, by: Sequence[str] = BY, notes: tuple[str, ...] = (), **options):
    return comparison.compare(Listing(records, notes), by, options.pop("here", working()), **options)


def refusal(*records: Record, **options) -> str:
    with pytest.raises(UserError) as refused:
        compare(*records, **options)
    return str(refused.value)


def labels(judgement) -> list[str]:
    return [arm.label for arm in judgement.arms]


def test_a_comparison_is_a_study_with_one_look():
    seeds = range(8)
    both = [run for name, fd in (("linear", 1.03), ("cosine", 1), ("sigmoid", 0.5)) for run in runs(name, fd, seeds)]
    for run in both:
        run.scores.update(YARDSTICK | {KID: run.scores[FD] / 100, "classifier.recall": 0.5})
    judgement = compare(*both)
    by_study = judging.of_arms(study("linear", "sigmoid", looks=(8,)), judgement.arms)
    assert judgement.verdicts == by_study.verdicts
    assert judgement.fingerprint == by_study.fingerprint
    assert labels(judgement) == ["cosine", "linear", "sigmoid"]  # the arm of the working params is the baseline
    assert [found.arm for found in judgement.verdicts] == ["linear"] * 3 + ["sigmoid"] * 3
    assert {found.baseline for found in judgement.verdicts} == {"cosine"}


def test_runs_of_one_seed_are_partners_and_others_are_left_out_by_name():
    found = compare(*reversed(runs("linear", 2, range(1, 7))), *runs("cosine", 1, range(8)), *runs("sigmoid", 3, [0]))
    (only,) = found.verdicts
    assert only.seeds == (1, 2, 3, 4, 5, 6)
    assert only.differences == pytest.approx([1.0] * 6)
    assert any("cosine's seeds 0 7" in note for note in found.notes)
    assert any("sigmoid" in note for note in found.notes)


TAUGHT = {**COSTS, "images_seen": 64, "teacher_flops": 3000}
MILD = {"diffusion__schedule": {"name": "linear", "linear": {"beta_end": 0.01}}}
X0 = {"diffusion__parameterization": {"name": "x0"}}


@pytest.mark.parametrize(("others", "by", "arms"), [
    ([("linear", {}), ("linear", MILD)], BY,
     ["cosine", "linear (diffusion.schedule.linear.beta_end=0.01)",
      "linear (diffusion.schedule.linear.beta_end=0.02)"]),
    ([("cosine", {"sample__steps": 4})], ["sample"], ["sample.steps=5", "sample.steps=4"]),
    ([("linear", {}), ("cosine", X0)], [*BY, "diffusion.parameterization.name"],
     ["cosine, v", "cosine, x0", "linear, v"]),
    ([("linear", {"device": "cuda", "sample__batch_size": 7, "train__checkpoint_every": 1})], BY,
     ["cosine", "linear"]),
])  # fmt: skip
def test_arms_are_what_differs_in_the_keys_that_vary(others, by, arms):
    found = [run for number, (name, params) in enumerate(others) for run in runs(name, 2 + number, params=params)]
    assert labels(compare(*runs("cosine", 1), *found, by=by)) == arms


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"comparable": {"samples": 13}}, {}, "fingerprints differ"),
        ({"images_seen": 97}, {}, "images seen: cosine 96, linear 97"),
        ({"costs": TAUGHT}, {"may_differ": ["images_seen"]}, "teacher flops: cosine 0, linear 3,000"),
        ({"evaluations": 6}, {}, "evaluations: cosine 5, linear 6"),
        ({"precision": "bfloat16"}, {}, "precision: cosine float32, linear bfloat16"),
        ({"processor": "a GPU"}, {"may_differ": ["precision"]}, "processor: cosine a CPU, linear a GPU"),
        ({"code": {"ddpm/training": "0" * 12}}, {}, "code differs in ddpm/training"),
        ({}, {"by": ["seed"]}, "--by: seed pairs the runs"),
        ({"seed": 0}, {}, "fewer than two seeds"),
        ({"seed": 9}, {}, "cosine's seeds 0 1 2 3 4 5"),
    ],
)
def test_what_must_not_be_compared_is_refused(changes, options, says):
    linear = [result("linear", **{"seed": seed, "fd": 2.0, **changes}) for seed in SIX]
    assert says in refusal(*runs("cosine", 1), *linear, **options)


@pytest.mark.parametrize("what", ["precision", "processor"])
def test_seeds_that_differ_in_all_arms_alike_are_a_note_and_partners_that_differ_are_refused(what):
    def arm(schedule: str, fd: float, other: Sequence[int]) -> list[Record]:
        return [result(schedule, seed, fd, **{what: "another" if seed in other else "one"}) for seed in SIX]

    found = compare(*arm("cosine", 1, [0, 1]), *arm("linear", 2, [0, 1]))
    assert f"different {what}: cosine another or one, linear another or one" in found.notes
    assert f"different {what}: " in refusal(*arm("cosine", 1, [0, 1]), *arm("linear", 2, [0, 2]))


@pytest.mark.parametrize("what", ["threads", "kernels"])
def test_how_a_cpu_computes_is_alike_where_both_arms_say_so(what):
    one, other = ({"environment": {what: value}} for value in ("1", "2"))
    assert f"different {what}: " in refusal(*runs("cosine", 1, **one), *runs("linear", 2, **other))
    assert compare(*runs("cosine", 1, **one), *runs("linear", 2, **other), may_differ=[what]).verdicts
    found = compare(*runs("cosine", 1, **one), *runs("linear", 2, environment={}))  # of a program, or old
    assert not any(what in note for note in found.notes)


def test_each_arms_own_files_are_no_other_code():
    cosine, linear = (
        {"ddpm/training": "0" * 12, f"ddpm/variants/schedules/{name}.py": number * 12}
        for name, number in (("cosine", "1"), ("linear", "2"))
    )
    assert compare(*runs("cosine", 1, code=cosine), *runs("linear", 2, code=linear)).verdicts
    edited = linear | {"ddpm/variants/schedules/linear.py": "3" * 12}
    mixed = [result("linear", seed, 2.0, code=edited if seed else linear) for seed in SIX]
    line = refusal(*runs("cosine", 1, code=cosine), *mixed)
    assert line.startswith("code differs in ddpm/variants/schedules/linear.py: ")


def drawn(precision: str, **sampling) -> dict:
    return {"sampling": {"precision": precision, **sampling}}


def test_samplers_are_compared_without_the_fingerprint_of_sampling_and_in_one_precision():
    """``auto`` may resolve differently on each machine: then only ``sample.precision`` itself may be compared."""
    ancestral = {"sample__sampler": {"name": "ancestral"}}
    same = runs("cosine", 2, params=ancestral, comparable=drawn("float32", steps=9))
    found = compare(*runs("cosine", 1), *same, by=["sample.sampler.name"])
    assert found.verdicts[0].arm == "ancestral"
    assert found.fingerprint == same[0].fingerprint.without("sampling") != same[0].fingerprint.hash
    other = runs("cosine", 2, params=ancestral, comparable=drawn("bfloat16"))
    assert "sampling.precision (float32 there, bfloat16 here)" in refusal(
        *runs("cosine", 1), *other, by=["sample.sampler.name"]
    )
    linear = runs("linear", 2, comparable=drawn("bfloat16", steps=9))
    here = runs("cosine", 1, comparable=drawn("float32", steps=9))
    assert "sampling.precision" in refusal(*here, *linear)
    found = compare(*here, *linear, may_differ=["precision"])
    assert found.fingerprint == linear[0].fingerprint.without("sampling")
    linear = runs("linear", 2, comparable=drawn("bfloat16", steps=10))
    assert "sampling.steps" in refusal(*here, *linear, may_differ=["precision"])
    other = runs("cosine", 2, params={"sample__precision": "bfloat16"}, comparable=drawn("bfloat16"))
    assert compare(*runs("cosine", 1), *other, by=["sample.precision"]).verdicts


def programs(fd: float, **fields) -> list[Record]:
    unknown = {"images_seen": None, "parameters": None, "evaluations": None, "precision": None, "code": {}}
    content = {"sampling": None} | fields.pop("comparable", {})
    return [result("theirs", seed, fd + 0.01 * seed, params={"diffusion__schedule": {"name": "cosine"}},
                   program="python theirs.py", comparable=content, **unknown | fields)
            for seed in SIX]  # fmt: skip


def test_a_programs_runs_are_judged_beside_ours_and_what_is_unknown_is_said():
    found = compare(*runs("cosine", 1), *programs(2))
    assert labels(found) == ["cosine", "python theirs.py"]
    (only,) = found.verdicts
    assert only.outcome == "worse"
    for name in ("images seen", "parameters", "evaluations", "precision"):
        assert any(note.startswith(f"different {name}: ") and "unknown" in note for note in found.notes)
    assert "images seen" not in citation.cite(only)
    assert "?" not in citation.cite(only)
    assert "digits 8x8, drawn by python theirs.py" in citation.cite(only)
    assert found.fingerprint == runs("cosine", 1)[0].fingerprint.without("sampling")
    assert refusal(*programs(2), *runs("cosine", 1, [0])).endswith("`ddpm score SAMPLES --seed N` adds one")
    assert "score all of them alike" in refusal(*runs("cosine", 1), *programs(2, comparable={"samples": 13}))
    for key, value in (("images_seen", 97), ("comparable", {"samples": 13}), ("processor", "a GPU")):
        assert "differ" in refusal(*runs("cosine", 1), *programs(2, **{key: value}))


MODEL = {"classifier.fd": 1.0, "classifier.kid_mean": 0.1, "classifier.precision": 0.5}


@pytest.mark.parametrize(
    ("twin", "what"),
    [
        ({"samples": "1" * 64}, "samples"),
        ({"scores": dict.fromkeys(MODEL, 0.7) | {"real.classifier.fd": 0.2}}, "scores"),
    ],
)
def test_one_model_under_two_seeds_is_refused(twin, what):
    ours, theirs = (
        [result(name, seed, scores={key: score + seed / by for key, score in MODEL.items()}) for seed in range(6)]
        for name, by in (("cosine", 1), ("linear", -9))
    )
    assert compare(*ours, *theirs)
    copied = [run.model_copy(update=twin) if run.seed in (2, 5) else run for run in theirs]
    assert f"linear-2, linear-5: the same {what} under seeds 2 5" in refusal(*ours, *copied)
    shares = [run.model_copy(update={"scores": run.scores | {"classifier.precision": 0.5}}) for run in theirs]
    assert compare(*ours, *shares)  # one score may well be the same twice


def test_programs_are_told_apart_by_their_names_where_their_params_are_alike():
    one, two = programs(2), [run.model_copy(update={"program": "ruby", "params": {}}) for run in programs(3)]
    assert labels(compare(*one, *two)) == ["python theirs.py", "ruby"]
    for run in (*one, *two):
        run.params["recipe"] = "a"
    assert labels(compare(*one, *two, by=["recipe"])) == ["a (python theirs.py)", "a (ruby)"]
