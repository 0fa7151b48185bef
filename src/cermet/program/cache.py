"""The cache: which file holds the plan of a subgraph, and the rules of the folder it lies in.

Key, file names and folder: cermet_plan.h. A damaged, truncated or foreign entry is as good as none.
"""
from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cermet import build
from cermet.drivers.base import CompileOptions
from cermet.errors import CermetError
from cermet.program.plan import Plan, PlanError
from cermet.program.plan_layout import MAX_FILE_BYTES
from cermet.program.plan_reader import decode_plan
from cermet.program.tree_hash import blake2sp

KEY_PREFIX = b"cermet-key-2"
CHOICES = {"match": ("tflite", "exact"), "assume": ("on", "replayed", "off"), "prefer": ("speed", "npu"),
           "registers": ("all", "changed"), "chains": ("kernel", "program"), "first_rows": ("proven", "least")}
MAX_MIN_PARTITION_NODES = 2**31 - 1     # an int in the delegate
MAX_CORES = 8                           # CERMET_MAX_LANES
MAX_NODES = 2**20                       # groups only: guards against 0-4000000000
_RANGE = re.compile(r"(0|[1-9][0-9]{0,6})(?:-(0|[1-9][0-9]{0,6}))?")
_ENTRY_NAME = re.compile(r"[0-9a-f]{64}\.plan")
_LEFTOVER_NAME = re.compile(r"\.[0-9a-f]{64}\.\d+\.tmp")
_OPTION_NAMES = ("match", "allow", "deny", "min_partition_nodes", "assume", "prefer", "registers", "chains",
                 "first_rows", "cores", "groups")


class CacheError(CermetError):
    """The cache folder or an entry cannot be used; one line says which and why."""


class OptionError(CermetError):
    """A compile option is misspelt or out of range; one line names what is allowed."""


# Options


def options_text(options: CompileOptions) -> str:
    """The one spelling of options that goes into the key."""
    return (f"match={options.match};allow={'+'.join(sorted(options.allow))};deny={'+'.join(sorted(options.deny))};"
            f"min_partition_nodes={options.min_partition_nodes};assume={options.assume};"
            f"prefer={options.prefer};registers={options.registers};chains={options.chains};"
            f"first_rows={options.first_rows};cores={options.cores};groups={groups_text(options.groups)}")


def groups_text(groups: Iterable[Iterable[int]]) -> str:
    """0-5+7-9/6: groups joined by '/', runs of consecutive numbers by '+'."""
    return "/".join("+".join(_runs(sorted(group))) for group in groups)


def _runs(numbers: list[int]) -> list[str]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] + 1 == number:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]


def parse_options(pairs: Iterable[str]) -> CompileOptions:
    """Options from key=value pairs. Raises OptionError for an unknown key or a wrong value."""
    options = CompileOptions()
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in _OPTION_NAMES:
            raise OptionError(f"option {pair!r}: must be one of {', '.join(_OPTION_NAMES)}, as name=value")
        options = replace(options, **{name: _PARSERS[name](name, value.strip())})
    return options


def _parse_choice(name: str, value: str) -> str:
    """In capitals too, as the delegate takes them."""
    if value.lower() not in CHOICES[name]:
        raise OptionError(f"option {name}: {value!r} must be one of {', '.join(CHOICES[name])}")
    return value.lower()


def _parse_words(name: str, value: str) -> frozenset[str]:
    """Operation names; numbers and ranges of numbers."""
    words = [word.strip().upper() for word in re.split(r"[+,]", value)] if value else []
    for word in words:
        is_range = _RANGE.fullmatch(word)
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", word) and not (is_range and int(is_range[1]) <= int(
                is_range[2] or is_range[1])):
            raise OptionError(f"option {name}: {word[:80]!r} must be operation names like CONV_2D or numbers like "
                              "12-15, joined by '+' or ','")
    return frozenset(words)


def _parse_count(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", value) or not 1 <= int(value) <= MAX_MIN_PARTITION_NODES:
        raise OptionError(f"option {name}: {value!r} must be 1..{MAX_MIN_PARTITION_NODES}")
    return int(value)


def _parse_cores(name: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]", value) or not 1 <= int(value) <= MAX_CORES:
        raise OptionError(f"option {name}: {value!r} must be 1..{MAX_CORES}")
    return int(value)


def _parse_groups(name: str, value: str) -> tuple[tuple[int, ...], ...]:
    groups = tuple(_parse_group(name, text) for text in value.split("/")) if value else ()
    members = [node for group in groups for node in group]
    if len(set(members)) != len(members) or groups_text(groups) != value:
        raise OptionError(f"option {name}: {value[:60]!r} must be like 0-5+7-9/6, each operation once, "
                          "ascending in its group")
    return groups


def _parse_group(name: str, text: str) -> tuple[int, ...]:
    nodes: list[int] = []
    for run in text.split("+"):
        match = re.fullmatch(r"([0-9]{1,7})(?:-([0-9]{1,7}))?", run)
        if match is None or int(match[2] or match[1]) >= MAX_NODES:
            raise OptionError(f"option {name}: {run[:60]!r} must be an operation number or FIRST-LAST")
        nodes += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(nodes)


_PARSERS: dict[str, Callable[[str, str], Any]] = {
    **dict.fromkeys(CHOICES, _parse_choice), "allow": _parse_words, "deny": _parse_words,
    "min_partition_nodes": _parse_count, "cores": _parse_cores, "groups": _parse_groups}


# Key


def cache_key(blob: bytes, soc: str, options: CompileOptions, build_id: str = build.BUILD_ID) -> bytes:
    """32 bytes that name the plan of this blob, SoC, options and compiler."""
    texts = (KEY_PREFIX, soc.encode(), build_id.encode(), options_text(options).encode())
    return blake2sp(b"".join([*(text + b"\0" for text in texts), blob]))


# Folder


def default_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """$CERMET_CACHE_DIR, else $XDG_CACHE_HOME/cermet when that is absolute, else ~/.cache/cermet."""
    if environment.get("CERMET_CACHE_DIR"):
        return Path(environment["CERMET_CACHE_DIR"])
    cache_home = environment.get("XDG_CACHE_HOME", "")
    base = Path(cache_home) if os.path.isabs(cache_home) else Path(environment.get("HOME") or Path.home()) / ".cache"
    return base / "cermet"


@dataclass(frozen=True)
class Entry:
    """One file of the cache; error says why it is not usable."""

    path: Path
    size_bytes: int
    plan: Plan | None
    error: str = ""


@dataclass(frozen=True)
class Cache:
    """A folder of plans."""

    directory: Path

    def path(self, key: bytes) -> Path:
        return self.directory / f"{key.hex()}.plan"

    def load(self, key: bytes) -> Plan:
        """The plan of a key. Raises CacheError when there is none that can be trusted."""
        self._require_private()
        entry = _read_entry(self.path(key))
        if entry.plan is None:
            raise CacheError(f"{entry.path}: {entry.error}")
        return entry.plan

    def has(self, key: bytes) -> bool:
        """Whether there is a plan that can be trusted."""
        try:
            self.load(key)
        except CacheError:
            return False
        return True

    def store(self, key: bytes, data: bytes) -> Path:
        """Write an entry so that readers see all of it or nothing. Makes the folder when needed."""
        self._create()
        path = self.path(key)
        write_atomically(path, data, self.directory / f".{key.hex()}.{os.getpid()}.tmp")
        return path

    def entries(self) -> list[Entry]:
        """All entries by name, each checked. Empty when the folder does not exist."""
        if not self.directory.exists():
            return []
        self._require_private()
        return [_read_entry(path) for path in self._files(_ENTRY_NAME)]

    def clear(self) -> int:
        """Remove all entries and what interrupted writers left; the number of entries. Other files stay."""
        if not self.directory.exists():
            return 0
        self._require_private()
        entries = self._files(_ENTRY_NAME)
        for path in entries + self._files(_LEFTOVER_NAME):
            path.unlink(missing_ok=True)
        return len(entries)

    def _files(self, name: re.Pattern[str]) -> list[Path]:
        return sorted(path for path in self.directory.iterdir() if name.fullmatch(path.name))

    def _create(self) -> None:
        if not self.directory.exists():
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            self.directory.mkdir(mode=0o700, exist_ok=True)
        self._require_private()

    def _require_private(self) -> None:
        """Only the user (or root) may have been able to put files here: a plan is a program for a DMA engine."""
        try:
            status = self.directory.stat()
        except OSError as error:
            raise CacheError(f"{self.directory}: {error.strerror}") from error
        if not stat.S_ISDIR(status.st_mode):
            raise CacheError(f"{self.directory}: is not a folder")
        if status.st_uid not in (os.geteuid(), 0):
            raise CacheError(f"{self.directory}: belongs to user {status.st_uid}, "
                             f"must belong to {os.geteuid()} or root")
        if status.st_mode & 0o022:
            raise CacheError(f"{self.directory}: mode {status.st_mode & 0o777:04o} lets others write, "
                             "must be 0700 or 0755")


def write_atomically(path: Path, data: bytes, temporary: Path | None = None, *, sync: bool = True) -> None:
    """Write a file of mode 0600 under a temporary name next to it, sync it, rename it.

    sync=False is for files that need not survive a power cut: syncing may take longer than compiling.
    """
    temporary = temporary or path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _read_entry(path: Path) -> Entry:
    try:
        data = read_regular_file(path, MAX_FILE_BYTES)
    except (OSError, CacheError) as error:
        return Entry(path, 0, None, getattr(error, "strerror", None) or str(error))
    try:
        plan = decode_plan(data)
    except PlanError as error:
        return Entry(path, len(data), None, str(error))
    if f"{plan.key.hex()}.plan" != path.name:
        return Entry(path, len(data), None, f"plan: is of key {plan.key.hex()}, not of its file name")
    return Entry(path, len(data), plan)


def read_regular_file(path: Path, limit_bytes: int) -> bytes:
    """Contents of a file; never hangs on a pipe or device. Raises OSError or CacheError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise CacheError("is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size > limit_bytes:
            raise CacheError(f"{status.st_size} bytes, at most {limit_bytes} are read")
        return file.read(limit_bytes + 1)
