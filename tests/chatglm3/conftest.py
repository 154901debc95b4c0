"""What the tests of this package share."""

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# No deadline: it would make a slow machine a failure.
settings.register_profile("tests", deadline=None, derandomize=True, database=None)
settings.load_profile("tests")

# The models are so small that threads would only wait for each other.
torch.set_num_threads(1)


@pytest.fixture
def checkpoint(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small checkpoint that a test may damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "checkpoint"))
