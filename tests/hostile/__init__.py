"""Input that means harm, or makes no sense: each ends in the right result, or in one line and exit code 2.

``python -m tests.hostile`` runs every bad input and writes the line that each printed to docs/bad-inputs.md.
"""
