"""The examples run as they are, and learn."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
ONE_FILE = ROOT / "examples/ddpm_in_one_file.py"


@pytest.mark.slow
def test_the_one_file_example_draws_a_grid(tmp_path):
    command = [sys.executable, ONE_FILE, "--steps", "3", "--out", tmp_path / "digits.png"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == f"16 new digits: {tmp_path / 'digits.png'}\n"
    with Image.open(tmp_path / "digits.png") as picture:
        assert len(picture.convert("L").getcolors()) > 100
