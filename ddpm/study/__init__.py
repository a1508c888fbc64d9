"""From a question to a verdict: a plan, its experiments, and what their scores say at each look."""
