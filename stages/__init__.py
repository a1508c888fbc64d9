"""The stages of dvc.yaml, run as ``python -m stages NAME``: each has its settings handed in and writes its outs."""
