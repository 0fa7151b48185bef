"""The cache: one key per content, and no entry is believed that cannot be trusted."""
from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from cermet.drivers.base import CompileOptions
from cermet.program.cache import (
    Cache,
    CacheError,
    OptionError,
    cache_key,
    default_directory,
    options_text,
    parse_options,
)
from cermet.program.plan import Plan, PlanNode
from cermet.program.plan_writer import encode_plan
from tests.program.test_plan import sample_plan
from tests.program.test_tree_hash import expected

EVERY_OPTION = CompileOptions("exact", frozenset({"CONV_2D", "ADD"}), frozenset({"MEAN", "12-15"}), 3, "off", "npu",
                              "changed", "program", "least", 3, ((0, 1, 2, 3, 4, 5, 7, 8, 9), (6,)))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def stored(cache: Cache) -> tuple[bytes, Plan, Path]:
    plan = sample_plan()
    return plan.key, plan, cache.store(plan.key, encode_plan(plan))


def test_options_have_one_spelling() -> None:
    assert options_text(CompileOptions()) == "match=tflite;allow=;deny=;min_partition_nodes=1;assume=on;" \
        "prefer=speed;registers=all;chains=kernel;first_rows=proven;cores=1;groups="
    assert options_text(EVERY_OPTION) == (
        "match=exact;allow=ADD+CONV_2D;deny=12-15+MEAN;min_partition_nodes=3;assume=off;prefer=npu;"
        "registers=changed;chains=program;first_rows=least;cores=3;groups=0-5+7-9/6")


def test_key_is_the_hash_that_the_header_describes() -> None:
    text = b"cermet-key-2\0rk3588\0build\0match=tflite;allow=;deny=;min_partition_nodes=1;" \
        b"assume=on;prefer=speed;registers=all;chains=kernel;first_rows=proven;cores=1;groups=\0blob"
    assert cache_key(b"blob", "rk3588", CompileOptions(), "build") == expected(text)


def test_key_of_known_bytes_never_changes() -> None:
    """The C twin of this function is tested with the same digits."""
    assert cache_key(b"blob", "rk3588", EVERY_OPTION, "0.1.0+0123456789abcdef").hex() == KNOWN_KEY


def test_every_part_of_the_key_counts() -> None:
    keys = {cache_key(b"blob", "rk3588", CompileOptions(), "a"), cache_key(b"blob", "rk3588", CompileOptions(), "b"),
            cache_key(b"blob", "rk3576", CompileOptions(), "a"), cache_key(b"blo", "rk3588", CompileOptions(), "a"),
            cache_key(b"blob", "rk3588", CompileOptions(match="exact"), "a"),
            cache_key(b"blob", "rk3588", CompileOptions(chains="program"), "a"),
            cache_key(b"blob", "rk3588", CompileOptions(first_rows="least"), "a"),
            cache_key(b"blob", "rk3588", CompileOptions(groups=((0, 1),)), "a"),
            cache_key(b"blob", "rk3588", CompileOptions(groups=((0,), (1,))), "a")}
    assert len(keys) == 9


def test_options_are_read_back_from_their_spelling() -> None:
    for options in (CompileOptions(), EVERY_OPTION, CompileOptions(groups=((0,), (1, 2), (5, 9)))):
        assert parse_options(options_text(options).split(";")) == options


def test_names_may_be_lower_case_and_separated_by_commas() -> None:
    assert parse_options(["deny=add, conv_2d"]).deny == {"ADD", "CONV_2D"}


@pytest.mark.parametrize(("pair", "words"), [
    ("alow=ADD", "option 'alow=ADD': must be one of match, allow, deny, min_partition_nodes, assume, "
     "prefer, registers, chains, first_rows, cores, groups"),
    ("match", "must be one of match"),
    ("cores=9", "option cores: '9' must be 1..8"),
    ("cores=0", "option cores: '0' must be 1..8"),
    ("cores=", "option cores: '' must be 1..8"),
    ("match=EXACTLY", "option match: 'EXACTLY' must be one of tflite, exact"),
    ("match=fast", "option match: 'fast' must be one of tflite, exact"),
    ("allow=ADD++MEAN", "option allow: '' must be operation names like CONV_2D or numbers like 12-15, joined by"),
    *((f"deny={word}", f"option deny: {word!r} must be operation names") for word in (
        "5-4", "07", "-", "1-2-3", "12345678", "4X", "A-B", "3-", "CONV 2D")),
    ("assume=maybe", "option assume: 'maybe' must be one of on, replayed, off"),
    ("prefer=gpu", "option prefer: 'gpu' must be one of speed, npu"),
    ("registers=some", "option registers: 'some' must be one of all, changed"),
    ("chains=both", "option chains: 'both' must be one of kernel, program"),
    ("first_rows=7", "option first_rows: '7' must be one of proven, least"),
    ("min_partition_nodes=0", "option min_partition_nodes: '0' must be 1..2147483647"),
    ("min_partition_nodes=x", "'x' must be 1"),
    ("min_partition_nodes=99999999999999999999", "must be 1..2147483647"),
    ("groups=1-0", "must be like 0-5"),
    ("groups=0,1", "'0,1' must be an operation number or FIRST-LAST"),
    ("groups=0-1/1", "each operation once"),
    ("groups=0+1", "must be like 0-5"),
    ("groups=0-9999999999", "must be an operation number"),
    ("groups=0-9999999", "must be an operation number"),
    ("groups=/", "must be an operation number"),
])
def test_wrong_options_are_named(pair: str, words: str) -> None:
    with pytest.raises(OptionError) as error:
        parse_options([pair])
    assert words in str(error.value)


def test_stored_entry_is_loaded(cache: Cache) -> None:
    key, plan, path = stored(cache)
    assert cache.load(key) == plan
    assert path.name == f"{key.hex()}.plan"
    assert path.stat().st_mode & 0o777 == 0o600
    assert cache.directory.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in cache.directory.iterdir()] == [path.name]


def test_missing_entry_is_an_error_that_names_it(cache: Cache) -> None:
    cache.store(bytes(32), b"x")
    with pytest.raises(CacheError, match=r"0101.*\.plan: No such file or directory"):
        cache.load(b"\1" * 32)


def test_damaged_truncated_and_foreign_entries_are_not_loaded(cache: Cache) -> None:
    key, plan, path = stored(cache)
    data = path.read_bytes()
    generator = random.Random(7)
    for _ in range(300):
        offset = generator.randrange(len(data))
        damaged = generator.choice((data[:offset], data[:offset] + bytes([data[offset] ^ 1 << generator.randrange(8)])
                                    + data[offset + 1:], generator.randbytes(offset)))
        path.write_bytes(damaged)
        with pytest.raises(CacheError):
            cache.load(key)
    foreign = Plan(b"\1" * 32, plan.build_id, plan.soc, (PlanNode(None),), ())
    path.write_bytes(encode_plan(foreign))
    with pytest.raises(CacheError, match="not of its file name"):
        cache.load(key)


def test_entry_that_is_a_pipe_or_folder_does_not_hang(cache: Cache) -> None:
    key, _, path = stored(cache)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CacheError, match="is not a regular file"):
        cache.load(key)
    path.unlink()
    path.mkdir()
    with pytest.raises(CacheError, match=r"is not a regular file|Is a directory"):
        cache.load(key)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_folder_that_others_can_write_is_refused(cache: Cache, mode: int) -> None:
    key, plan, _ = stored(cache)
    cache.directory.chmod(mode)
    for action in (lambda: cache.load(key), lambda: cache.store(key, encode_plan(plan)), cache.entries, cache.clear):
        with pytest.raises(CacheError, match=f"mode {mode:04o} lets others write"):
            action()


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("x")
    with pytest.raises(CacheError, match="is not a folder"):
        Cache(tmp_path / "cache").store(bytes(32), b"x")


def test_clear_removes_entries_and_leftovers_only(cache: Cache) -> None:
    stored(cache)
    (cache.directory / f".{'0' * 64}.123.tmp").write_text("half")
    (cache.directory / "notes.txt").write_text("mine")
    assert cache.clear() == 1
    assert [path.name for path in cache.directory.iterdir()] == ["notes.txt"]


def test_interrupted_write_leaves_nothing(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        cache.store(bytes(32), b"x")
    assert list(cache.directory.iterdir()) == []


def test_default_folder_follows_xdg() -> None:
    assert default_directory({"XDG_CACHE_HOME": "/x", "HOME": "/home/u"}) == Path("/x/cermet")
    assert default_directory({"XDG_CACHE_HOME": "relative", "HOME": "/home/u"}) == Path("/home/u/.cache/cermet")
    assert default_directory({"HOME": "/home/u"}) == Path("/home/u/.cache/cermet")
    assert default_directory({"CERMET_CACHE_DIR": "/c", "XDG_CACHE_HOME": "/x"}) == Path("/c")


KNOWN_KEY = "4c65cb109e768747c332d4ff464a4cd6fec35872960fc724d46ad87a470daa4e"   # by test_tree_hash.expected()


def test_words_are_taken_in_capitals_as_the_delegate_does() -> None:
    assert parse_options(["match=EXACT", "registers=Changed"]) == CompileOptions(match="exact", registers="changed")
