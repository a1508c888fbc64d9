"""What a message may show of an address: never a password, never a token."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ddpm.base import variant
from ddpm.base.errors import EXIT_USER_ERROR, UserError, describe, exit_code, mask_secrets

# the letters of the secrets appear in nothing else
SECRET = st.text("KQZ/@?#:%&=+.,;'()[]!$*~-_", min_size=1).filter(lambda text: set(text) & set("KQZ"))
PLAIN = st.text("abc123.-", min_size=1)
SCHEMES = st.sampled_from(["http", "https", "ftp", "postgresql+psycopg2", "mysql", "foo"])


def leaks(text: str) -> bool:
    return bool(set(text) & set("KQZ"))


@settings(max_examples=40)
@given(SCHEMES, PLAIN, SECRET, PLAIN, PLAIN)
@example("https", "user", "KQ/ZZ", "host", "x")
@example("https", "user", "KQ@ZZ", "host", "x")
@example("https", "user", "KQ?Z@Z#Q", "host", "x")
@example("https", "user", "@K", "host", "x")
def test_no_password_is_shown(scheme, user, password, host, path):
    shown = mask_secrets(f"cannot reach {scheme}://{user}:{password}@{host}/{path} now")
    assert not leaks(shown)
    assert shown.startswith(f"cannot reach {scheme}://***")
    assert shown.endswith(" now")


@settings(max_examples=40)
@given(SCHEMES, SECRET.filter(lambda user: user[0] != "/"), PLAIN, PLAIN, SECRET, st.sampled_from("?#"))
def test_no_token_is_shown(scheme, user, host, path, token, mark):
    for address in (f"{host}/{path}{mark}{token}", f"{user}@{host}/{path}{mark}{token}", f"{user}:{token}@{host}"):
        assert not leaks(mask_secrets(f"'{scheme}://{address}'"))
        assert not leaks(variant.quote(f"{scheme}://{address}"))
        assert not leaks(variant.quote({"source": f"{scheme}://{'a' * 90}{address}"}))
        assert not leaks(str(UserError(f"data.source: {scheme}://{address}: no such folder")))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pa/s@s@host:8080/a?sig=1", "https://***@host:8080/a"),
        ("https://user:pw@host/a?mail=me@example.org", "https://***"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("file:///home/me@work/x?token=1", "file:///home/me@work/x"),
    ],
)
def test_what_is_shown_of_an_address(text, shown):
    assert mask_secrets(text) == shown


@pytest.mark.parametrize(
    ("line", "key", "allowed"),
    [
        ("params.yaml: train.lr: unknown key (did you mean 'learning_rate'?); allowed: steps, epochs", "train.lr",
         "steps, epochs"),
        ("params.yaml: train.steps: 0 is not allowed; see: x; train.lr: unknown; allowed: steps", "train.steps", None),
        ("ddpm study new: --vary: contains a duplicate; allowed: each key once; or none", "--vary", "each key once"),
        ("ideas/a.yaml: train: {'a': 1} is a whole section; allowed: keys", "train", "keys"),
        ("metrics/ does not match the params: run `dvc repro`", None, None),
    ],
)  # fmt: skip
def test_what_a_program_learns_of_a_mistake(line, key, allowed):
    assert describe("mistake", line) == {"kind": "mistake", "key": key, "allowed": allowed, "error": line}


# as torch words it; None: it is not about memory
SAID = {
    "CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has 79 GiB, of which 1 is free.": "Tried to allocate 2 GiB)",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`": "CUBLAS_STATUS_ALLOC_FAILED",
    "NCCL error in: N.cpp:1, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'": "Cuda failure 2",
    "CUDA error: an illegal memory access was encountered": None,
}


@pytest.mark.parametrize(("said", "quoted"), SAID.items())
def test_a_gpu_whose_memory_is_full_is_one_line_and_any_other_fault_keeps_its_traceback(said, quoted, capsys):
    def main() -> None:
        raise RuntimeError(said)

    if quoted is None:
        with pytest.raises(RuntimeError):
            exit_code(main)
        return
    assert exit_code(main) == EXIT_USER_ERROR
    (printed,) = capsys.readouterr().err.splitlines()
    assert quoted in printed
