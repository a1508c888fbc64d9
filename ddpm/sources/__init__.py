"""Where images come from: the contract of a dataset, fetching, archives and file formats.

Torchvision reads MNIST's files. The rest of its datasets is not used: a download has no time-out and falls back from
https to http, an archive is unpacked without limits, CIFAR's batches are unpickled, and the sums of MNIST are those of
files as one server packs them.
"""
