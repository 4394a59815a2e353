"""Folders of images as an objective: what is read, what is left out, and what is refused."""

from __future__ import annotations

import copy
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from sectum.errors import UsageError
from sectum.plan.search.image_folder import ImageFolder

Image = pytest.importorskip("PIL.Image", reason="images are read by Pillow: install sectum[search]")


def make(folder: Path, count: int = 10, classes: tuple[str, ...] = ("dark", "light")) -> Path:
    """Images of noise, each class brighter than the one before; of several formats, sizes and modes."""
    rng = np.random.default_rng(1)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            noise = rng.integers(0, 40, (20 + index, 24, 3)) + 100 * number
            image = Image.fromarray(noise.astype(np.uint8)).convert(("RGB", "L", "P")[index % 3])
            image.save(folder / name / f"{index:02}.{('png', 'bmp')[index % 2]}")
    return folder


def test_classes_are_folders_and_other_files_are_not_looked_at(tmp_path):
    """Classes are in the order of their names; hidden folders and files of other endings take no part."""
    folder = make(tmp_path / "images")
    (folder / "dark" / "notes.txt").write_text("not an image")
    (folder / ".cache").mkdir()
    found = ImageFolder(folder)
    assert found.classes == ("dark", "light")
    assert len(found.files) == 20
    assert found.notes == ()


def test_each_class_is_in_each_part_and_no_image_in_two(tmp_path):
    """The split is the same each time, and holds out a fifth of each class for the score."""
    found = ImageFolder(make(tmp_path / "images"))
    parts = found.parts()
    assert parts == ImageFolder(tmp_path / "images").parts()
    assert sorted(chain(*parts)) == list(range(20))
    for part, size in zip(parts, (12, 4, 4), strict=True):
        labels = [found.files[place][1] for place in part]
        assert len(part) == size
        assert labels.count(0) == labels.count(1)


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 16, 16), (1, 8, 12)])
def test_images_have_the_size_that_the_network_takes(tmp_path, channels, height, width):
    """All are scaled and cut to one size, in colours or in grey, and are not read again for the next network."""
    found = ImageFolder(make(tmp_path / "images"))
    pictures = found.pictures(channels, height, width)
    assert pictures.shape == (20, channels, height, width)
    labels = np.array([label for _, label in found.files])
    assert pictures[labels == 0].mean() < 40 < 100 < pictures[labels == 1].mean()
    assert found.pictures(channels, height, width) is pictures


def test_images_that_cannot_be_read_are_named_and_left_out(tmp_path):
    """Damaged files, and files that are no images, are counted and named, and the others are used."""
    folder = make(tmp_path / "images")
    (folder / "dark" / "text.png").write_text("no image")
    whole = (folder / "light" / "00.png").read_bytes()
    (folder / "light" / "cut.png").write_bytes(whole[: len(whole) // 2])
    found = ImageFolder(folder)
    assert len(found.files) == 20
    (note,) = found.notes
    assert note.startswith(f"2 images of {folder} could not be read and took no part")
    assert "dark/text.png" in note
    assert "light/cut.png" in note


def test_an_image_of_too_many_pixels_is_left_out(tmp_path):
    """A small file that would fill the memory is not decoded."""
    folder = make(tmp_path / "images")
    header = b"P5 70000 70000 255\n"
    (folder / "dark" / "bomb.ppm").write_bytes(header)
    (note,) = ImageFolder(folder).notes
    assert "dark/bomb.ppm (" in note
    assert "pixels" in note


def test_what_is_no_folder_of_two_classes_is_refused(tmp_path):
    """Each error says what is there and what is needed."""
    with pytest.raises(UsageError, match="is no folder"):
        ImageFolder(tmp_path / "nowhere")
    (tmp_path / "empty" / "class").mkdir(parents=True)
    with pytest.raises(UsageError, match="has no folders with images"):
        ImageFolder(tmp_path / "empty")
    with pytest.raises(UsageError, match="has one class with images, 'alone', and telling images apart needs two"):
        ImageFolder(make(tmp_path / "one", classes=("alone",)))
    with pytest.raises(UsageError, match=r"the class 'dark' of .* has 4 images that can be read, and needs at least 5"):
        ImageFolder(make(tmp_path / "few", count=4))


def test_sizes_that_cannot_be_made_are_refused(tmp_path):
    """Images have one channel or three, and all of them have to fit into memory."""
    found = ImageFolder(make(tmp_path / "images"))
    with pytest.raises(UsageError, match="4 channels"):
        found.pictures(4, 8, 8)
    with pytest.raises(UsageError, match="give fewer images"):
        found.pictures(3, 10_000, 10_000)


def test_another_process_gets_the_files_and_not_the_pixels(tmp_path):
    """The objective can be sent to a process that was spawned, and splits the same there."""
    found = ImageFolder(make(tmp_path / "images"))
    pictures = found.pictures(3, 64, 64)
    there = copy.copy(found)  # takes the state that is sent
    assert there.parts() == found.parts()
    assert there.pictures(3, 64, 64) is not pictures
    assert np.array_equal(there.pictures(3, 64, 64), pictures)
