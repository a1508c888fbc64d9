"""A stream of ideas against a champion: every rung is a claim, and at most a small share of all rungs is false."""
