"""Where images come from: the contract of a dataset, fetching, archives and the formats of files."""
