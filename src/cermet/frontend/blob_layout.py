"""Struct layouts and constants of the subgraph blob, read from its C header so that there is one definition."""
from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from cermet import paths

C_TYPES = {"uint32_t": "<u4", "int32_t": "<i4", "uint64_t": "<u8", "int64_t": "<i8"}
ALIGNMENT_BYTES = 16


@dataclass(frozen=True)
class BlobLayout:
    """NumPy dtypes of the three structs, and every #define CERMET_... with a number."""

    header: np.dtype
    operation: np.dtype
    tensor: np.dtype
    constants: dict[str, int]


@cache
def blob_layout() -> BlobLayout:
    """Layout of cermet_blob.h. Its members are naturally aligned, so a packed dtype is the C layout."""
    text = re.sub(r"/\*.*?\*/", "", paths.header("cermet_blob.h").read_text(), flags=re.DOTALL)
    structs = {name: _dtype(body) for name, body in re.findall(r"struct cermet_blob_(\w+) \{(.*?)\};", text, re.DOTALL)}
    constants = {name: int(value, 0) for name, value in re.findall(r"#define (CERMET_\w+) (0x[0-9a-f]+|\d+)\b", text)}
    return BlobLayout(structs["header"], structs["operation"], structs["tensor"], constants)


def _dtype(body: str) -> np.dtype:
    return np.dtype([(name, C_TYPES[c_type]) for c_type, name in re.findall(r"(\w+) (\w+);", body)])


def aligned(position: int) -> int:
    """The next multiple of the section alignment."""
    return -(-position // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
