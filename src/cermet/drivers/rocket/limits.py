"""What the fields of registers hold: limits of every task. trm: by the field's width; hw-verified: seen on silicon."""
from __future__ import annotations

MAX_SIDE = 2047                 # rows and columns that a task reads: 11 bits, trm
MAX_INPUT_CHANNELS = 16_352     # 16 bits, trm; the limit of the vendor's tool
MAX_NOTCH = 8191                # atoms left out between one row and the next: NOTCH and LINE_NOTCH, 13 bits, trm
MAX_PAD = 15                    # above and on the left: 4 bits, 16 acts as 0 (hw-verified)
MAX_KERNEL = 31                 # rows and columns: 5 bits, trm; 1..7 hw-verified
MAX_KERNEL_BYTES = 524_287      # of one kernel: 19 bits, trm
MAX_STRIDE = 7                  # 3 bits, trm; 1..3 hw-verified
LARGEST_MULTIPLIER = 32767      # BS_MUL_OPERAND, EW_OP_CVT_SCALE and OUT_CVT_SCALE are signed 16 bits
MAX_SHIFT = 63                  # BS_MUL_SHIFT_VALUE has 6 bits; OUT_CVT_SHIFT above 63 has no meaning
