"""The stages of dvc.yaml, run as ``python -m stages NAME``: each gets its section as an argument and writes its outs."""
