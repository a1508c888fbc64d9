"""What a program prints: every usual form, and whatever else comes."""

import io
import math
import re
import tracemalloc

import pytest

from ddpm.programs.output import LINE, Output, read_file, read_stream, rule


def read(text: bytes | str, name: str = "val_loss", chunk: int = 2**16) -> float | None:
    pieces = Pieces(text if isinstance(text, bytes) else text.encode())
    pieces.size = chunk
    return read_stream(pieces, {name: rule(name)}).values.get(name)


class Pieces(io.BytesIO):
    """A stream of which each read gets at most ``size`` bytes."""

    size = 2**16

    def read(self, size: int | None = None, /) -> bytes:
        return super().read(self.size)


@pytest.mark.parametrize(
    "text",
    [
        "METRIC val_loss=0.25", "val_loss: 0.25", "val_loss = 0.25\n", "val_loss:0.25 acc: 3", "epoch 3, val_loss=.25,",
        '{"step": 3, "val_loss": 0.25}', "{'val_loss': 0.25}", "{'val_loss': np.float32(0.25), 'a': 1}",
        "val_loss: tensor(0.2500, device='cuda:0')", "val_loss: 0.25.", "val_loss: 25e-2", "val_loss: +0.25%",
        "val_loss: 3\nval_loss: 0.25\n", "10%|#  |\r50%|## | val_loss=3\r100%|### val_loss=0.25", "val_loss:\t0.25\r\n",
        "\x1b[1mval_loss\x1b[0m: \x1b[32m0.25\x1b[0m", b"\xff\xfe\x00 val_loss: 0.25 \x00\xff",
        "INFO:root:val_loss: 0.25",
        '{"val_loss": 3}\nval_loss: 0.25', "val_loss: 3\n" + '{"val_loss": 0.25}',
        "val_loss: 0.25\nval_loss: improved\n",
        '{"broken": \nval_loss: 0.25', "x" * 3 * LINE + " val_loss: 0.25", "[" * LINE + "\nval_loss: 0.25",
        '{"a": {"val_loss": 0.25}}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("chunk", [1, 7, 2**16])
def test_the_last_value_counts(text, chunk):
    if chunk == 2**16 or len(text) < 1000:
        assert read(text, chunk=chunk) == 0.25


@pytest.mark.parametrize(
    "text",
    [
        "", "loss: 0.25", "train_val_loss: 0.25", "best/val_loss: 0.25", "val_loss_2: 0.25",
        "val_loss 0.25", "Val_Loss: 1",
        "val_loss: improved", "val_loss: 3abc", "val_loss: 1,234", "val_loss: 1.2.3", '{"val_loss": "0.25"}',
    ],
)  # fmt: skip
def test_what_is_no_value(text):
    assert read(text) is None


@pytest.mark.parametrize(
    "text", ["val_loss: nan", "val_loss: -inf", '{"val_loss": NaN}', '{"val_loss": 1' + "0" * 400 + "}"]
)
def test_a_value_that_is_not_finite_counts(text):
    assert not math.isfinite(read(f"val_loss: 3\n{text}"))


def test_inner_keys_of_json_follow_dots():
    assert read('{"val": {"loss": 0.25}}', "val.loss") == read('{"val.loss": 0.25}', "val.loss") == 0.25
    assert read("Test accuracy: 0.25", "Test accuracy") == 0.25


def test_a_regular_expression():
    printed = io.BytesIO(b"step 1: loss 3 memory: 5\nloss 0.25 of 9\nloss x\n")
    output = read_stream(printed, {"memory": rule("memory"), "score": r"loss ([\d.]+|NaN|x)(?: of (\d))?"})
    assert output.values == {"score": 0.25, "memory": 5.0}


@pytest.mark.parametrize("piece", [b"\0" * 2**16, b"val_loss: 7 " * 5000, b"\n" * 2**16, b"{" * 2**16])
def test_endless_output_costs_bounded_memory(piece):
    printed = io.BytesIO(piece * 40 + b"\nval_loss: 0.25")
    tracemalloc.start()
    output = read_stream(printed, {"val_loss": rule("val_loss")})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert output.values["val_loss"] == 0.25
    assert peak < 60 * LINE
    assert len(output.tail) <= LINE


def test_the_last_line_can_be_shown():
    output = read_stream(io.BytesIO(b"Traceback\n\x1b[31mValueError: \x07bad\xff\x1b[0m\n\n  \n"), {})
    assert re.fullmatch(r"ValueError: \\x07bad.+", output.last_line())
    assert Output().last_line() == ""


@pytest.mark.parametrize("text", [b"", b"[1]", b"\xff", b"{", b"[" * 10**5, b'{"val": {"loss": null}}'])
def test_a_file_that_says_nothing(tmp_path, text):
    path = tmp_path / "out.json"
    path.write_bytes(text)
    assert read_file(path, ["val.loss"]) == read_file(tmp_path / "none", ["val.loss"]) == {}
    path.write_bytes(b'{"val": {"loss": 0.25}}')
    assert read_file(path, ["val.loss"]) == {"val.loss": 0.25}
