"""Pictures for people: grids, films and plots."""
