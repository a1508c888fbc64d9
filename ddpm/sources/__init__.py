"""Where images come from: the contract of a dataset, fetching, archives and file formats."""
