"""The stages of dvc.yaml, each run as ``python -m stages NAME``: it gets its section and writes its outs."""
