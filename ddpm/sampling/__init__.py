"""Algorithm 2 and its relatives: from noise to images."""
