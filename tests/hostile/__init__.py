"""Input that is malicious, or makes no sense: each gives the right result, or one line and exit code 2.

``python -m tests.hostile`` runs every bad input and writes the line that each printed to docs/bad-inputs.md.
"""
