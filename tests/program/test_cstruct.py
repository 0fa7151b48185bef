"""The reader of C headers: layouts as a compiler makes them, and what it does not understand is an error."""
from __future__ import annotations

from pathlib import Path

import pytest

from cermet.program.cstruct import Header, HeaderError, parse_header

TEXT = """
#define LIMIT 12 /* a comment */
#define MAGIC 0x504d5243
#define NAME "text"
/* struct ghost { uint32_t a; }; */
struct sample {
\tuint8_t first; // one byte, then a gap
\tuint64_t second;
\tchar name[5];
\tuint16_t third, *no;
};
"""


def header(tmp_path: Path, text: str) -> Header:
    (tmp_path / "x.h").write_text(text)
    return parse_header(tmp_path / "x.h")


def test_members_lie_at_their_natural_alignment(tmp_path: Path) -> None:
    made = header(tmp_path, TEXT.replace(", *no", ""))
    assert dict(made.constants) == {"LIMIT": 12, "MAGIC": 0x504D5243}
    assert list(made.records) == ["sample"]
    record = made.records["sample"]
    assert (record.size, dict(record.offsets)) == (24, {"first": 0, "second": 8, "name": 16, "third": 22})


def test_what_is_packed_is_unpacked(tmp_path: Path) -> None:
    record = header(tmp_path, TEXT.replace(", *no", "")).records["sample"]
    data = record.pack(second=7, name=b"abc")
    assert record.unpack(data)._asdict() == {"first": 0, "second": 7, "name": b"abc\0\0", "third": 0}
    assert record.unpack_all(data * 3, 24, 2)[1].second == 7


def test_wrong_values_and_names_are_errors(tmp_path: Path) -> None:
    record = header(tmp_path, TEXT.replace(", *no", "")).records["sample"]
    with pytest.raises(ValueError, match="struct sample: "):
        record.pack(third=65536)
    with pytest.raises(TypeError, match="struct sample has no member fourth"):
        record.pack(fourth=1)
    with pytest.raises(ValueError, match="2 x struct sample at 0 end beyond the 47 bytes there are"):
        record.unpack_all(bytes(47), 0, 2)


@pytest.mark.parametrize("member", ["uint16_t third, *no;", "void *p;", "uint32_t words[4];", "int x;"])
def test_members_that_are_not_understood_are_errors(tmp_path: Path, member: str) -> None:
    with pytest.raises(HeaderError, match="struct bad: "):
        header(tmp_path, f"struct bad {{ uint8_t a; {member} }};")
