"""The networks of feature extractors: a file for each, which the extractor of that name imports where it computes."""
