from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from tpopt.store.folder import cache_folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    return tmp_path / "tpopt"


def test_the_folder_is_the_user_s_alone(home: Path):
    assert cache_folder("kernels") == home / "kernels"
    assert (home / "kernels").stat().st_mode & 0o777 == 0o700


def test_where_others_may_write_nothing_is_loaded_from(home: Path):
    (home / "kernels").mkdir(parents=True)
    (home / "kernels").chmod(0o777)
    folder = cache_folder("kernels")
    assert (folder.is_relative_to(home), folder.is_dir(), folder.name) == (False, True, "kernels")


def test_where_there_can_be_no_folder_it_is_a_temporary_one(home: Path):
    home.write_text("a file in the way")
    folder = cache_folder("kernels")
    assert (folder.is_relative_to(home), folder.is_dir()) == (False, True)
