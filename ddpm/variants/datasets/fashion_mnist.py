"""Fashion-MNIST: 70,000 pieces of clothing, 28x28 gray. Xiao, Rasul, Vollgraf 2017 (arXiv:1708.07747)."""

from typing import ClassVar

from ddpm.sources.idx import IdxDataset


class FashionMnist(IdxDataset):
    licence = "MIT (Zalando SE)"
    address = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    md5: ClassVar = {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    }
    classes = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
               "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")  # fmt: skip
