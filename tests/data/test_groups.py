import re
import warnings
from pathlib import Path

import pytest

from gae_augment.data import groups_of

PATHS = ["Crack/tile004_0.jpg", "Fray/tile004_0.jpg", "Fray/tile004_1.jpg", "Fray/deep/tile011_0.jpg"]


def test_match_names_the_object():
    paths = [f"/photos/train/{path}" for path in PATHS]
    assert groups_of(paths, "/photos/train", r"[^/]+/tile\d+") == [
        "Crack/tile004",
        "Fray/tile004",
        "Fray/tile004",
        "deep/tile011",
    ]
    # Without the class, tiles of two classes share a name.
    assert groups_of(paths, "/photos/train", r"tile\d+") == ["tile004", "tile004", "tile004", "tile011"]


def test_pattern_sees_only_what_lies_below_the_root():
    root = Path("tile999")
    assert groups_of([root / path for path in PATHS], root, r"tile\d+")[0] == "tile004"
    with pytest.raises(ValueError, match=r"matches none of the 4 paths, such as 'Crack/tile004_0\.jpg'"):
        groups_of([root / path for path in PATHS], root, r"tile9\d+")


def test_without_a_pattern_each_image_is_an_object():
    assert groups_of(PATHS, ".") == PATHS


def test_paths_without_a_match_are_objects_of_their_own():
    paths = [*PATHS, "Fray/other.jpg", "Fray/more.jpg"]
    with pytest.warns(UserWarning, match=re.escape("does not match 2 of 6 paths, such as 'Fray/other.jpg'")) as record:
        names = groups_of(paths, ".", r"tile\d+")
    assert len(record) == 1
    assert names[-2:] == ["Fray/other.jpg", "Fray/more.jpg"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        groups_of(PATHS, ".", r"tile\d+")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("tile(", "'tile(' is no regular expression: missing ), unterminated subpattern"),
        ("plate", "'plate' matches none of the 4 paths"),
        ("x*", "'x*' matches none of the 4 paths"),
    ],
)
def test_useless_pattern_is_an_error(pattern, message):
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        groups_of(PATHS, ".", pattern)
    assert "such as '[^/]+/[^/_]+' for files named CLASS/OBJECT_NUMBER.jpg" in str(raised.value)


def test_the_example_of_the_errors_works():
    assert groups_of(["A/x1_0.jpg", "A/x1_1.jpg", "B/x1_0.jpg"], ".", "[^/]+/[^/_]+") == ["A/x1", "A/x1", "B/x1"]


def write(folder, text, name="groups.csv"):
    (folder / name).write_bytes(text.encode("utf-8-sig"))
    return str(folder / name)


def test_table_names_the_objects(tmp_path):
    # As a spreadsheet on Windows writes it, with other columns and a comma in a name.
    rows = ['Crack\\tile004_0.jpg,1,"tile 4, left"', "Fray/tile004_0.jpg,2,tile 4", "Fray/tile004_1.jpg,3,tile 4"]
    file = write(tmp_path, "\r\n".join(["path,number,group", *rows]))
    with pytest.warns(UserWarning, match=r"does not name 1 of 4 paths, such as 'Fray/deep/tile011_0\.jpg'"):
        names = groups_of([f"/photos/{path}" for path in PATHS], "/photos", file)
    assert names == ["tile 4, left", "tile 4", "tile 4", "Fray/deep/tile011_0.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,object\nFray/a.jpg,1", "has the columns ['path', 'object'], but must have 'path' and 'group'"),
        ("", "has the columns [], but must have"),
        ("path,group\n/photos/Fray/tile004_0.jpg,1", "names none of the 4 images, such as 'Crack/tile004_0.jpg'"),
        ("path,group\nFray/tile004_0.jpg,1\nFray/tile004_0.jpg,2", "gives 'Fray/tile004_0.jpg' two groups"),
    ],
)
def test_useless_table_is_an_error(text, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        groups_of(PATHS, ".", write(tmp_path, text))


def test_file_that_is_no_table_is_an_error(tmp_path):
    (tmp_path / "image.csv").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(ValueError, match="is no CSV file in UTF-8"):
        groups_of(PATHS, ".", str(tmp_path / "image.csv"))
    with pytest.raises(FileNotFoundError):
        groups_of(PATHS, ".", str(tmp_path / "missing.csv"))
