"""Verdicts: what the scores of arms show, whatever was trained."""
