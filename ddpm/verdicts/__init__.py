"""Verdicts: which runs may be compared, and what their scores show."""
