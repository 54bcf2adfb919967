import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from gae_augment._utils.storage import ImageFile, new_images


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float16, torch.float64, torch.uint16], ids=str)
def test_images_in_a_file_hold_what_is_written(dtype, tmp_path):
    values = (torch.arange(24).view(2, 3, 4) % 2).to(dtype)
    file = ImageFile(tmp_path / "a" / "b", (2, 3, 4), dtype)
    file.tensor.copy_(values)
    twin = pickle.loads(pickle.dumps(file))
    assert torch.equal(twin.tensor, values)
    assert (file.tensor.dtype, os.stat(file.path).st_size) == (dtype, 24 * dtype.itemsize)
    # What one writes the other sees.
    twin.tensor.zero_()
    assert not file.tensor.any()
    del twin
    assert file.path.is_file(), "it is the maker's to remove"
    path = file.path
    del file
    assert not path.exists()


def test_images_without_a_folder_are_in_memory_and_others_in_a_file_without_a_name(tmp_path):
    assert new_images((2, 3), torch.uint8, None).shape == (2, 3)
    assert new_images((0, 3), torch.uint8, tmp_path).shape == (0, 3)
    images = new_images((2, 3), torch.int64, tmp_path).fill_(7)
    assert list(tmp_path.iterdir()) == []
    assert images.sum() == 42


def test_a_process_that_ends_leaves_no_file(tmp_path):
    program = (
        "import os, sys, torch; from gae_augment._utils.storage import ImageFile;"
        "file = ImageFile(sys.argv[1], (2, 2), torch.uint8);"
        "process = os.fork();"
        "os.waitpid(process, 0) if process else sys.exit(0);"
        "print(file.path.is_file())"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert printed == "True\n", "a process that was forked off leaves it"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_seen_before_anything_is_written(tmp_path, monkeypatch):
    def full(handle, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gae_augment._utils.storage.os", SimpleNamespace(**{**vars(os), "posix_fallocate": full}))
    with pytest.raises(OSError, match=r"No space left on device\. .*room for 12 bytes, and this failed for: .*images"):
        ImageFile(tmp_path / "images", (3, 4), torch.uint8)
    assert list(tmp_path.glob("images/*")) == []


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(FileExistsError, match=r"kept in a folder that can be written to"):
        ImageFile(tmp_path / "taken", (3, 4), torch.uint8)
