"""Denoising Diffusion Probabilistic Models: train, sample, score and compare them reproducibly."""

import sys

if sys.platform == "win32":  # which has neither fcntl nor the signals that everything else here counts on
    print("error: ddpm runs on Linux and macOS; on Windows, run it in WSL", file=sys.stderr)
    sys.exit(2)
