"""Which share of small faults do the tests catch? ``python tests/mutate.py CLONE RESULTS.csv`` answers in hours.

CLONE is a clone of this repository that nothing else uses. Each of 150 random mutations (a sign, a comparison, a
constant, a dropped statement; always the same ones for the same code) is applied to one of its files, the tests of that
room run, and the file is restored. A row is appended to RESULTS.csv at once, and the same command continues after an
interruption. The first row of a room is its code as it is, which has to pass.
"""

import ast
import csv
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PER_ROOM = 15
LIMIT = 1800  # seconds for the tests of a room; a mutation that takes longer is "slow", which somebody would notice
ROOMS = {  # name: the code's files; more tests than those in the room's own folder
    "diffusion": "diffusion/*; variants/schedules variants/parameterizations variants/variances variants/losses",
    "model": "model/*; variants/networks params/test_config.py hostile/test_bad_inputs.py",
    "training": "training/*; model variants/emas variants/optimizers variants/timestep_samplers variants/augmentations",
    "sampling": "sampling/*; variants/samplers",
    "scoring": "scoring/*; variants/metrics variants/extractors",
    "evaluation": "evaluation/*; scoring sampling",
    "data": "data/* sources/*; sources variants/datasets stages/test_data_stages.py hostile",
    "variants": "variants/*/*; variants/{family}",
    "verdicts": "verdicts/c[io]* verdicts/[g-r]* verdicts/statistics* verdicts/verdict*;",
    "looks": "verdicts/sequential* verdicts/tuning* verdicts/curves*; study",
}
PAIRS = [(ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq)]
PAIRS += [(ast.Is, ast.IsNot), (ast.In, ast.NotIn), (ast.And, ast.Or)]
SWAPS = dict(PAIRS) | {after: before for before, after in PAIRS}


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those of types, decorators and formatted strings."""
    yield node
    for field, value in ast.iter_fields(node):
        if field not in {"annotation", "returns", "decorator_list"}:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                    yield from walk(child)


def mutations(source: str) -> Iterator[tuple[ast.AST, str]]:
    """Nodes of the source, each with the code that may take its place."""
    for node in walk(ast.parse(source)):
        match node:
            case ast.BinOp(left, op, right) if type(op) in SWAPS:
                yield node, f"({ast.unparse(ast.BinOp(left, SWAPS[type(op)](), right))})"
            case ast.BoolOp(op, values):
                yield node, f"({ast.unparse(ast.BoolOp(SWAPS[type(op)](), values))})"
            case ast.Compare(left, [op], right) if type(op) in SWAPS:
                yield node, f"({ast.unparse(ast.Compare(left, [SWAPS[type(op)]()], right))})"
            case ast.UnaryOp(ast.USub() | ast.Not(), operand):
                yield node, f"({ast.unparse(operand)})"
            case ast.Constant(bool() as value):
                yield node, str(not value)
            case ast.Constant(int() | float() as value):
                yield node, repr(value + 1 if isinstance(value, int) else value * 2 or 1.0)
            case ast.Expr(ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Assign([ast.Attribute() | ast.Subscript()]):
                yield node, "pass"
            case ast.If(test, _, []) if ast.unparse(test) != "TYPE_CHECKING":
                yield node, "pass"


def applied(source: str, node: ast.AST, code: str) -> str:
    lines = source.encode().splitlines(keepends=True)
    before = b"".join(lines[: node.lineno - 1]) + lines[node.lineno - 1][: node.col_offset]
    after = lines[node.end_lineno - 1][node.end_col_offset :] + b"".join(lines[node.end_lineno :])
    return (before + code.encode() + after).decode()


def outcome(clone: Path, tests: list[str]) -> tuple[str, str]:
    """("missed", "caught" or "slow", what pytest prints about it)."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(clone), "OMP_NUM_THREADS": "1"}
    try:
        run = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return "slow", ""
    return "caught" if run.returncode else "missed", " ".join(run.stdout.splitlines()[-3:])


def main(clone: Path, results: Path) -> None:
    done = {tuple(row[:4]) for row in csv.reader(results.open())} if results.exists() else set()
    subprocess.run(["git", "checkout", "--quiet", "--", "ddpm"], cwd=clone, check=True)
    work = []
    for room, (globs, names) in {room: text.split(";") for room, text in ROOMS.items()}.items():
        paths = sorted(path for glob in globs.split() for path in (clone / "ddpm").glob(f"{glob}.py"))
        sites = [(path, *mutation) for path in paths for mutation in mutations(path.read_text())]
        sample = random.Random(room).sample(sites, PER_ROOM)  # noqa: S311
        work += [(i, room, names, *site) for i, site in enumerate([(paths[-1], None, ""), *sample])]
    for _, room, names, path, node, code in sorted(work, key=lambda site: site[0]):  # a first impression of all rooms
        own = {"looks": "verdicts", "variants": ""}.get(room, room)
        tests = [f"tests/{name}" for name in f"{own} {names.format(family=path.parent.name)}".split()]
        key = (room, str(path.relative_to(clone)), str(node.lineno if node else 0), code)
        if key not in done:
            source, start = path.read_text(), time.monotonic()
            path.write_text(applied(source, node, code) if node else source)
            try:
                found = outcome(clone, tests)
            finally:
                path.write_text(source)
            before = ast.get_source_segment(source, node) if node else ""
            with results.open("a", newline="") as file:
                csv.writer(file).writerow([*key, before, round(time.monotonic() - start), *found])


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
