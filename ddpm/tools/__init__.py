"""Tools around the pipeline: what is missing, what a run will need, and the scores of other programs' images."""
