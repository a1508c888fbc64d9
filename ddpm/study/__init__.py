"""From a question to a verdict: a plan, its experiments, and what their scores show at each look."""
