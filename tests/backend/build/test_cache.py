from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tpopt.backend.build.cache import KernelCache, kernel_digest


def put(cache: KernelCache, key: str, code: bytes, metadata: bytes = b"m") -> Path:
    written = cache.scratch(key)
    written.write_bytes(code)
    return cache.put(key, written, metadata, 0.5).path


def age(path: Path, seconds: float) -> None:
    when = time.time() - seconds
    os.utime(path, (when, when))


def test_what_was_put_is_got(tmp_path: Path):
    cache = KernelCache(tmp_path)
    path = put(cache, "k", b"code", b"metadata")
    built = KernelCache(tmp_path).get("k")
    assert (path, path.read_bytes()) == (tmp_path / "k.so", b"code")
    assert built is not None
    assert (built.path, built.metadata, built.seconds, built.cached) == (path, b"metadata", 0.0, True)


def test_nothing_is_got_for_another_key_or_without_a_folder(tmp_path: Path):
    put(KernelCache(tmp_path), "k", b"code")
    assert (KernelCache(tmp_path).get("j"), KernelCache(tmp_path / "none").get("k")) == (None, None)


@pytest.mark.parametrize("suffix", [".so", ".meta"])
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + b"?", lambda data: b""])
def test_a_damaged_entry_counts_as_absent(tmp_path: Path, suffix: str, damage):
    cache = KernelCache(tmp_path)
    victim = put(cache, "k", b"code", b"metadata").with_suffix(suffix)
    victim.write_bytes(damage(victim.read_bytes()))
    assert cache.get("k") is None
    put(cache, "k", b"new")
    assert (tmp_path / "k.so").read_bytes() == b"new"


def test_an_entry_never_changes_once_it_is_there(tmp_path: Path):
    cache = KernelCache(tmp_path)
    put(cache, "k", b"first", b"1")
    written = cache.scratch("k")
    written.write_bytes(b"second")
    built = KernelCache(tmp_path).put("k", written, b"2", 0.5)
    assert (built.path.read_bytes(), built.metadata, written.exists()) == (b"first", b"1", False)


def test_the_entry_that_was_not_asked_for_the_longest_goes_first(tmp_path: Path):
    cache = KernelCache(tmp_path, max_bytes=2500)
    for number, key in enumerate(("a", "b")):
        put(cache, key, bytes(1000))
        age(tmp_path / f"{key}.meta", 100 - number)
    assert cache.get("a") is not None
    put(cache, "c", bytes(1000))
    assert [key for key in "abc" if cache.get(key)] == ["a", "c"]


def test_within_the_limit_nothing_goes(tmp_path: Path):
    cache = KernelCache(tmp_path, max_bytes=4000)
    for key in "abc":
        put(cache, key, bytes(1000))
    assert [key for key in "abc" if cache.get(key)] == ["a", "b", "c"]


def test_what_is_being_put_stays_even_where_it_is_over_the_limit_alone(tmp_path: Path):
    cache = KernelCache(tmp_path, max_bytes=100)
    put(cache, "a", bytes(1000))
    put(cache, "b", bytes(1000))
    assert [key for key in "ab" if cache.get(key)] == ["b"]


def test_files_of_dead_workers_go_and_those_of_living_ones_stay(tmp_path: Path):
    cache = KernelCache(tmp_path)
    dead, living = cache.scratch("a"), cache.scratch("b")
    age(dead, 4000)
    cache.clean()
    assert (dead.exists(), living.exists()) == (False, True)


def test_code_without_metadata_goes_when_room_is_needed(tmp_path: Path):
    cache = KernelCache(tmp_path, max_bytes=1500)
    (tmp_path / "orphan.so").write_bytes(bytes(1000))
    put(cache, "a", bytes(1000))
    assert sorted(path.name for path in tmp_path.glob("*.so")) == ["a.so"]


def test_a_digest_tells_where_parts_end():
    assert kernel_digest("ab", "c") != kernel_digest("a", "bc")
    assert kernel_digest("ab", b"c") == kernel_digest(b"ab", "c")
    assert len(kernel_digest()) == 40
