"""The stages of dvc.yaml, run as ``python -m stages NAME``: each gets its settings as arguments and writes its outs."""
