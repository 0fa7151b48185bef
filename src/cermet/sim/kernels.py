"""Binding of libcermet_sim.so (src/simkernels). Calls release the interpreter lock, so cores run in parallel.

CERMET_SIM_PLAIN=1 selects the NumPy definitions instead; results are identical.
"""
from __future__ import annotations

import functools
import os
import warnings
from typing import Any

import cffi
import numpy as np

from cermet.paths import library

LIBRARY = "libcermet_sim.so"
VERSION = 4                         # CERMET_SIM_VERSION

# The same declarations as cermet_sim.h; cermet_sim_abi() tells when they have drifted apart.
DECLARATIONS = """
struct cermet_sim_linear {
   const int32_t *alu; const int32_t *mul;
   int32_t multiply_first; int32_t prelu; int32_t shift, shift_negative; int32_t relu, relux; int32_t relux_limit;
};
struct cermet_sim_surfaces { const int8_t *base[2]; int64_t step[2]; int64_t line[2]; };
struct cermet_sim_post {
   const int32_t *weight_offset; int32_t truncate, truncate_up;
   struct cermet_sim_linear bs, bn;
   int32_t ew; const int32_t *ew_table; const int32_t *ew_vector; struct cermet_sim_surfaces ew_source;
   int32_t ew_prelu, ew_shift, ew_shift_negative; int32_t ew_relu, ew_relux, ew_relux_limit;
   const int32_t *lut; int32_t lut_low, lut_high;
   int32_t out_scale, out_shift, out_offset, out_away, out_bytes;
   int8_t *target; int64_t group_bytes, surface_bytes, line_bytes; int32_t surfaces_per_group;
};
struct cermet_sim_conv {
   const int16_t *window; const int16_t *weights; const int32_t *input_sums;
   int32_t window_width, channels; int32_t out_width, out_channels; int32_t kernel_width, kernel_height;
   int32_t stride_x, stride_y, dilation_x, dilation_y; int32_t depthwise;
};
struct cermet_sim_fill {
   const int8_t *source; int64_t row_step, column_step, surface_step;
   int32_t height, width, channels; int32_t rows, columns;
   int32_t pad_top, pad_left, spread_y, spread_x; const int8_t *lanes;
};
struct cermet_sim_weights {
   const int8_t *stored; int16_t *packed; int32_t kernels, channels, taps, depthwise;
};
int32_t cermet_sim_abi(void);
void cermet_sim_prepare(const struct cermet_sim_fill *fill, const struct cermet_sim_weights *weights, int16_t *window,
                        int32_t *sums);
void cermet_sim_conv(const struct cermet_sim_conv *conv, const struct cermet_sim_post *post, int64_t first,
                     int64_t last, int32_t first_channel, int32_t last_channel);
void cermet_sim_flying_rows(const struct cermet_sim_surfaces *source, const struct cermet_sim_post *post,
                            int32_t width, int32_t first_row, int32_t last_row, int32_t first_surface,
                            int32_t last_surface);
void cermet_sim_pool_rows(const int16_t *band, int32_t band_columns, int32_t method, int32_t kernel_width,
                          int32_t kernel_height, int32_t stride_x, int32_t stride_y, int64_t reciprocal,
                          int32_t out_width, int32_t rows, int8_t *target, int64_t line_bytes);
"""

ffi = cffi.FFI()
ffi.cdef(DECLARATIONS)

# By the kind of number: of an array's whole memory, of one number.
POINTERS = {kind: (ffi.typeof(f"{kind}[]"), ffi.typeof(f"{kind} *")) for kind in ("int8_t", "int16_t", "int32_t")}
EW_NONE, EW_ADD, EW_MAX, EW_MIN, EW_MUL = range(5)


def plain_wanted() -> bool:
    return os.environ.get("CERMET_SIM_PLAIN", "") not in ("", "0")


@functools.cache
def loaded() -> Any:
    """The library; None, with a warning, when it is missing or of another version: then everything runs in NumPy."""
    try:
        path = library(LIBRARY)
    except FileNotFoundError as error:
        warnings.warn(f"simulated NPU: running its slow NumPy form: {error}", stacklevel=2)
        return None
    lib = ffi.dlopen(str(path))
    if lib.cermet_sim_abi() != _expected_abi():
        warnings.warn(f"simulated NPU: running its slow NumPy form: {path} belongs to another version, rebuild it",
                      stacklevel=2)
        return None
    return lib


def _expected_abi() -> int:
    sizes = [ffi.sizeof(f"struct cermet_sim_{name}") for name in ("post", "conv", "fill")]
    return VERSION << 28 | sizes[0] << 16 | sizes[1] << 8 | sizes[2]


def fast_library() -> Any:
    """The library to use now, or None for the plain form."""
    return None if plain_wanted() else loaded()


def pointer(array: np.ndarray, kind: str) -> Any:
    """Address of an array's first element; the caller keeps the array alive."""
    whole, single = POINTERS[kind]
    if array.flags.c_contiguous:
        return ffi.from_buffer(whole, array)
    return ffi.cast(single, array.__array_interface__["data"][0])
