"""The stages of dvc.yaml, run as ``python -m stages NAME``: each takes its section and writes its outs."""
