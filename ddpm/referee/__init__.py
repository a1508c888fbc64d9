"""This project's runs as arms of a verdict: which may be compared, by which scores, and what forbids a verdict."""
