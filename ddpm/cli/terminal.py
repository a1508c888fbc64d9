"""What the commands of ``ddpm`` share in showing their results."""

import json
from typing import Any

from ddpm.base.files import write_text
from ddpm.params import file


def answer(as_json: bool, value: object, *lines: object) -> None:
    """Print ``lines`` or, as JSON, ``value`` as one document; NaN and infinity in it raise ValueError."""
    print(*([json.dumps(value, indent=2, allow_nan=False)] if as_json else lines), sep="\n", flush=True)


def write_params(text: str, force: bool) -> None:
    """Write params.yaml. Raises UserError if it has uncommitted changes, unless ``force``."""
    from ddpm.arms import revision

    if file.PATH.exists() and not force:
        revision.check_committed([str(file.PATH)], "which this would overwrite: commit them, or pass --force")
    write_text(file.PATH, text)


def write_run(of: str, name: str, params: dict[str, Any], revision: str | None, force: bool) -> None:
    """Write the params.yaml of a run of a study or ladder. revision: the commit whose code made it, if that is known.
    Raises UserError as ``write_params`` does."""
    commit = f", with the code of commit {revision[:10]}" if revision else ""
    header = f"# {of}, {name}: `dvc repro` gives its scores{commit}.\n"
    write_params(header + file.encode(params), force)
    print(f"params.yaml is now that of {name} in {of}; run it with `dvc repro`")
