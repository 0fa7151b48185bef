"""The simulated kernel driver: accel/rocket of Linux 7.2 as a process of its own.

Bugs of the kernel's driver are reproduced or left out by name: QUIRKS in behaviour.py.

What differs from the kernel, and why:
- Time. A job that hangs takes its 500 ms of wall time. A job that is only slow to simulate does not time out; one whose
  estimated cycles exceed 500 ms at the SoC's clock does. The estimate adds 34 us per task for the interrupt round trip.
- Memory of a BO is allocated on first touch. ENOMEM comes for a BO larger than MemAvailable, and at the limits at the
  top of rocket_ioctls.py, where a kernel with enough memory would go on.
- close() returns before the queue has been handed to the hardware; the hand-over itself goes by the kernel's rule.
- An fd of the device is a socket underneath: poll() says writable, lseek() fails, a call needs two free fds (EMFILE).
- The interfaces of a 64-bit process only: 32-bit programs (drm_version's other layout) are not served.
- MAP_PRIVATE is always EINVAL: the kernel refuses what may become copy-on-write, and each private mapping may.
- Where the kernel would touch freed memory (a BO that outlives its file), a line in the log says so, and that is all.
- What an oversized CREATE_BO leaks in the kernel is not leaked. GET_MAGIC is EINVAL. HZ is taken as 250 (ASSUMED).
"Least loaded core" counts the jobs queued for it or running on it; idle files that used it last do not count.
"""
