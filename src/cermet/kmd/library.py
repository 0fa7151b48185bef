"""Binding of libcermet_kmd.so (src/kmd), by the very headers that it was built with."""
from __future__ import annotations

from typing import Any

import cffi

from cermet import paths
from cermet.kmd.uapi import declarations, parse_constants, strip_comments

PROTOCOL, OWN = (paths.header(name).read_text() for name in ("cermet_protocol.h", "cermet_kmd.h"))
CONSTANTS = parse_constants(strip_comments(PROTOCOL).replace(" \n", "\n"))

ffi = cffi.FFI()
ffi.cdef(declarations(PROTOCOL) + declarations(OWN))
lib: Any = ffi.dlopen(str(paths.library("libcermet_kmd.so")))
