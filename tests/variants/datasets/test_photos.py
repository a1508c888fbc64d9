"""Flowers and image_folder."""

import pytest

from ddpm.base import variant


def dataset(name: str):
    return variant.variant_class("datasets", name)()


def arranged(name: str, *files: str) -> dict[str, str]:
    classes: dict[str, str] = dataset(name).arrange(sorted(files))[0]
    return classes


@pytest.mark.parametrize("folders", [
    ("photos/daisy", "photos/dandelion", "photos/roses", "photos/sunflowers", "photos/tulips"),
    ("flowers/daisy", "flowers/dandelion", "flowers/rose", "flowers/sunflower", "flowers/tulip"),
    ("Daisy", "Dandelions", "Rose", "Sunflowers", "Tulip"),
])  # fmt: skip
def test_flowers_in_any_layout(folders):
    found = arranged("flowers", *(f"{folder}/1.jpg" for folder in folders), "else/2.jpg")
    assert list(found.values()) == ["daisy", "dandelion", "roses", "sunflowers", "tulips"]


def test_image_folder_takes_the_top_folders_as_classes():
    assert arranged("image_folder", "zoo/cats/a/1.png", "zoo/cats/2.png", "zoo/dogs/3.png", "zoo/4.png") == {
        "zoo/cats/a/1.png": "cats", "zoo/cats/2.png": "cats", "zoo/dogs/3.png": "dogs", "zoo/4.png": "images",
    }  # fmt: skip


def test_image_folder_with_a_split_of_its_own():
    files = ("d/test/cats/1.png", "d/train/cats/1.png", "d/train/dogs/1.png", "d/val/dogs/2.png")
    assert arranged("image_folder", *files) == dict(zip(files, ["cats", "cats", "dogs", "dogs"], strict=True))
    assert dataset("image_folder").arrange(list(files))[1] == {files[0], files[3]}
