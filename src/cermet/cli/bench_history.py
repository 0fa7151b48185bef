"""The file to which `cermet bench --csv` appends, and how a new line stands to the ones before it."""
from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TextIO

from cermet.errors import CermetError

SAME = ("model", "device", "processors")        # columns in which lines must agree to be compared
TIMES = ("cold_ms", "warm_added_ms", "p50_ms", "p99_ms", "overhead_p50_ms")
MEASURED = (*TIMES, "peak_mib")
NOISY = ("p99_ms",)                             # compared but never called slower
PEER = "ref_p50_ms"                             # what takes the machine's other work out of a comparison
NUM_COMPARED = 10
SLOWER = 1.25
Row = Mapping[str, str]


def append(path: Path, values: Mapping[str, object]) -> list[str]:
    """Adds a line; says how it compares with the earlier ones that it can be compared with.

    Columns that an older file has not are added to it. Raises CermetError for a file that is not such a history.
    """
    header, new = list(values), {name: str(value) for name, value in values.items()}
    try:
        with path.open("a+", newline="", encoding="utf-8") as file:
            file.seek(0)
            reader = csv.DictReader(file)
            known = list(reader.fieldnames or header)
            if not set(SAME) <= set(known) <= set(header):
                raise CermetError(f"{path}: its first line is not {','.join(header)}")
            rows = [{name: row[name] or "" for name in known} for row in reader]
            if reader.fieldnames is None or known != header:
                write_anew(file, header, rows)
            csv.DictWriter(file, header).writerow(new)
    except (UnicodeDecodeError, csv.Error) as error:
        raise CermetError(f"{path}: is not a CSV file: {error}") from error
    earlier = [row for row in rows if all(row[name] == new[name] for name in SAME)]
    return [f"{new['model']}: {comparison(earlier[-NUM_COMPARED:], new)}"] if earlier else []


def comparison(earlier: Sequence[Row], new: Row) -> str:
    """In words: each measured column as a multiple of the median before, and what became slower."""
    since = (f"the run of {earlier[0]['time']} (load {earlier[0]['load']})" if len(earlier) == 1
             else f"the median of {len(earlier)} runs since {earlier[0]['time']}")
    ratios = [f"{name} {ratio:.2f}" if (ratio := multiple(earlier, new, name)) else f"{name} -" for name in MEASURED]
    slower = [name for name in MEASURED if name not in NOISY and is_slower(earlier, new, name)]
    return f"times {since}: " + ", ".join(ratios) + (f"; SLOWER: {', '.join(slower)}" if slower else "")


def is_slower(earlier: Sequence[Row], new: Row, name: str) -> bool:
    """By itself and, where that is known and is a time, as a multiple of the peer's time in the same run."""
    ratio = multiple(earlier, new, name)
    beside = multiple(earlier, new, name, PEER) if name in TIMES else None
    return ratio is not None and ratio > SLOWER and (beside is None or beside > SLOWER)


def multiple(earlier: Sequence[Row], new: Row, name: str, divisor: str = "") -> float | None:
    """A column, perhaps divided by another of the same line, as a multiple of its median in earlier lines."""
    before = [value for row in earlier if (value := number(row, name, divisor)) is not None]
    now = number(new, name, divisor)
    return now / median(before) if before and median(before) > 0 and now is not None else None


def number(row: Row, name: str, divisor: str) -> float | None:
    try:
        return float(row[name]) / (float(row[divisor]) if divisor else 1)
    except (KeyError, ValueError, ZeroDivisionError):
        return None


def write_anew(file: TextIO, header: Sequence[str], rows: Sequence[Row]) -> None:
    """The whole file, with the columns that it is to have from now on."""
    file.seek(0)
    file.truncate()
    writer = csv.DictWriter(file, header, restval="")
    writer.writeheader()
    writer.writerows(rows)
