"""Runs: the record of each, and where records are found."""
