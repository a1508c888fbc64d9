"""Everything that can be chosen: FAMILY/NAME.py, one variant per file, and nothing else."""
