"""MNIST: 70,000 handwritten digits, 28x28 gray. LeCun, Cortes, Burges."""

from typing import ClassVar

from ddpm.sources.idx import IdxDataset


class Mnist(IdxDataset):
    licence = "usually given as CC BY-SA 3.0 (Y. LeCun, C. Cortes)"
    address = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    md5: ClassVar = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
    classes = tuple("0123456789")
