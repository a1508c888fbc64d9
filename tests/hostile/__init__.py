"""Input that is malicious, or makes no sense: each gives the right result, or one line and exit code 2."""
