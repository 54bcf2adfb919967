import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from gae_augment._utils.storage import ImageFile, new_images


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float16, torch.float64, torch.uint16], ids=str)
def test_image_file_keeps_its_values_and_is_removed_with_its_creator(dtype, tmp_path):
    values = (torch.arange(24).view(2, 3, 4) % 2).to(dtype)
    file = ImageFile(tmp_path / "a" / "b", (2, 3, 4), dtype)
    file.tensor.copy_(values)
    copy = pickle.loads(pickle.dumps(file))
    assert torch.equal(copy.tensor, values)
    assert (file.tensor.dtype, os.stat(file.path).st_size) == (dtype, 24 * dtype.itemsize)
    # Both map the same file.
    copy.tensor.zero_()
    assert not file.tensor.any()
    del copy
    assert file.path.is_file(), "only the object that created the file removes it"
    path = file.path
    del file
    assert not path.exists()


def test_new_images_are_in_memory_or_in_an_unnamed_file_of_the_folder(tmp_path):
    assert new_images((2, 3), torch.uint8, None).shape == (2, 3)
    assert new_images((0, 3), torch.uint8, tmp_path).shape == (0, 3)
    images = new_images((2, 3), torch.int64, tmp_path).fill_(7)
    assert list(tmp_path.iterdir()) == []
    assert images.sum() == 42


def test_file_is_removed_when_its_process_ends_but_not_by_a_forked_one(tmp_path):
    program = (
        "import os, sys, torch; from gae_augment._utils.storage import ImageFile;"
        "file = ImageFile(sys.argv[1], (2, 2), torch.uint8);"
        "process = os.fork();"
        "os.waitpid(process, 0) if process else sys.exit(0);"
        "print(file.path.is_file())"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed == "True\n", "a forked process must not remove the file"
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_reported_before_writing(tmp_path, monkeypatch):
    def full(handle, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gae_augment._utils.storage.os", SimpleNamespace(**{**vars(os), "posix_fallocate": full}))
    with pytest.raises(
        OSError, match=r"No space left on device\. Images need .* 12 bytes of free space\. .*: .*images"
    ):
        ImageFile(tmp_path / "images", (3, 4), torch.uint8)
    assert list(tmp_path.glob("images/*")) == []


def test_folder_must_not_be_a_file(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(FileExistsError, match=r"Images need a writable folder .* or choose another"):
        ImageFile(tmp_path / "taken", (3, 4), torch.uint8)
