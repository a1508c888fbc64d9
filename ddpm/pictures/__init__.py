"""Image grids, films and plots."""
