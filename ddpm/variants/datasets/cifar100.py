"""CIFAR-100: 60,000 photos in a hundred (fine) classes, 32x32 RGB. Krizhevsky 2009."""

from typing import ClassVar

from ddpm.sources.cifar import CifarDataset


class Cifar100(CifarDataset):
    address = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    md5: ClassVar = {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    }
    batches: ClassVar = {"train": ("train",), "test": ("test",)}
    meta = "meta"
    label_key = "fine_labels"
    class_key = "fine_label_names"
