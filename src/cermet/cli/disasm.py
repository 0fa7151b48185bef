"""`cermet disasm`: register programs as text, from a plan file or from raw program words."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cermet.errors import CermetError

if TYPE_CHECKING:
    from cermet.hw.registers import RegisterMap
    from cermet.program.plan import Plan, PlanPartition

MAX_FILE_BYTES = 2**31
OP_ENABLE_TARGET = 0x0081       # a task's last word
EPILOG = """
FILE is a plan (a cache entry, or what `cermet plan` wrote) or a raw program: 64-bit words, little endian, each task
up to its op_en word. Words that take an address show which buffer and offset it is. A file in which no word names a
register is an error; words that name none beside others that do are shown as numbers, with a warning.

examples:
  cermet disasm ~/.cache/cermet/0123...plan --task 0
  cermet disasm regcmd.bin
"""


@dataclass(frozen=True)
class Listing:
    """One task. notes: word number -> text behind the word."""

    title: str
    words: tuple[int, ...]
    notes: dict[int, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--task", type=int, metavar="N", help="only this task (counted over all partitions, from 0)")
    parser.add_argument("--soc", default="rk3588", help="whose registers raw words are for (default: rk3588)")


def run(arguments: argparse.Namespace) -> int:
    from cermet.hw.disasm import disassemble
    from cermet.hw.soc import soc_by_name
    from cermet.program.cache import CacheError, read_regular_file
    try:
        data = read_regular_file(arguments.file, MAX_FILE_BYTES)
    except CacheError as error:
        raise CermetError(f"{arguments.file}: {error}") from error
    soc, listings = listings_of(data, arguments.file, arguments.soc)
    registers = soc_by_name(soc).registers
    check_words(listings, arguments.file, soc, registers)
    for number, listing in select(listings, arguments.task):
        print(f"task {number}: {listing.title}, {len(listing.words)} words")
        for index, text in enumerate(disassemble(listing.words, registers)):
            print(f"{text}  -> {listing.notes[index]}" if index in listing.notes else text)
    return 0


def check_words(listings: list[Listing], path: Path, soc: str, registers: RegisterMap) -> None:
    """Raises CermetError when no word fits; says on stderr how many do not. Words that are 0 count for neither."""
    from cermet.hw.disasm import is_unknown
    words = [word for listing in listings for word in listing.words if word]
    num_unknown = sum(is_unknown(word, registers) for word in words)
    if words and num_unknown == len(words):
        raise CermetError(f"{path}: none of {len(words)} words names a register of the {soc}, "
                          "must be a register program")
    if num_unknown:
        print(f"cermet: {path}: {num_unknown} of {len(words)} words name no register of the {soc}", file=sys.stderr)


def select(listings: list[Listing], wanted: int | None) -> Iterator[tuple[int, Listing]]:
    """All tasks with their numbers, or the wanted one."""
    if wanted is None:
        yield from enumerate(listings)
    elif 0 <= wanted < len(listings):
        yield wanted, listings[wanted]
    elif listings:
        raise CermetError(f"--task: {wanted} must be 0..{len(listings) - 1}")
    else:
        raise CermetError(f"--task: {wanted}, but there are no tasks")


def listings_of(data: bytes, path: Path, soc: str) -> tuple[str, list[Listing]]:
    """(SoC, tasks) of a file. Raises CermetError when it is neither a plan nor program words."""
    from cermet.program.plan import PlanError
    from cermet.program.plan_layout import plan_header
    from cermet.program.plan_reader import decode_plan
    magic = plan_header().constants["CERMET_PLAN_MAGIC"].to_bytes(4, "little")
    if data[:4] == magic:
        try:
            plan = decode_plan(data)
        except PlanError as error:
            raise CermetError(f"{path}: {error}") from error
        return plan.soc, plan_listings(plan)
    if data[4:8] == b"TFL3":
        raise CermetError(f"{path}: a TFLite model, must be a plan: cermet compile {path} -o DIR makes DIR/KEY.plan")
    if not data or len(data) % 8:
        raise CermetError(f"{path}: {len(data)} bytes, must be a plan or whole 64-bit words")
    return soc, raw_listings(data)


def plan_listings(plan: Plan) -> list[Listing]:
    listings = []
    for number, partition in enumerate(plan.partitions):
        for index in range(len(partition.program.tasks)):
            listings.append(task_listing(partition, number, index))
    return listings


def task_listing(partition: PlanPartition, number: int, index: int) -> Listing:
    """One task of a partition."""
    program = partition.program
    task = program.tasks[index]
    raw = program.bos[task.bo].data[task.offset_bytes:task.offset_bytes + task.num_words * 8]
    raw = raw.ljust(task.num_words * 8, b"\0")
    notes = {(relocation.offset_bytes - task.offset_bytes) // 8:
             f"bo {relocation.target_bo} ({program.bos[relocation.target_bo].role}) + {relocation.addend_bytes:#x}"
             for relocation in program.relocations
             if relocation.bo == task.bo and 0 <= relocation.offset_bytes - task.offset_bytes < task.num_words * 8}
    return Listing(f"partition {number}{layer_name(program.debug.get('tasks'), index)}", words_of(raw), notes)


def layer_name(tasks: object, index: int) -> str:
    """", operation 3 (conv_2d)" when the debug section says so."""
    if not isinstance(tasks, list) or index >= len(tasks) or not isinstance(tasks[index], dict):
        return ""
    return f", {tasks[index].get('layer', '')}".rstrip(", ")


def words_of(raw: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(raw[at:at + 8], "little") for at in range(0, len(raw), 8))


def raw_listings(data: bytes) -> list[Listing]:
    """Tasks of a raw file: each ends behind its op_en word."""
    listings: list[Listing] = []
    words: list[int] = []
    start = 0
    for index, word in enumerate(words_of(data)):
        words.append(word)
        if word >> 48 == OP_ENABLE_TARGET:
            listings.append(Listing(f"at byte {start * 8}", tuple(words), {}))
            words, start = [], index + 1
    if words:
        listings.append(Listing(f"at byte {start * 8}, without op_en", tuple(words), {}))
    return listings
