"""Opening, identifying and the common ioctl layer."""
from __future__ import annotations

import array
import ctypes
import errno
import mmap
import os
import struct
import termios

import pytest

from cermet.kmd import uapi
from tests.kmd.client import MAP_FAILED, PAGE, Job, Node, address_of, libc

TABLE = {   # from the ABI's document: not from the header that is tested
    "ROCKET_CREATE_BO": 0xC0186440, "ROCKET_SUBMIT": 0x40186441, "ROCKET_PREP_BO": 0x40106442,
    "ROCKET_FINI_BO": 0x40086443, "VERSION": 0xC0406400, "GEM_CLOSE": 0x40086409, "GET_CAP": 0xC010640C,
    "PRIME_HANDLE_TO_FD": 0xC00C642D, "PRIME_FD_TO_HANDLE": 0xC00C642E}


@pytest.mark.parametrize("name", TABLE)
def test_ioctl_numbers_parsed_from_the_header(name: str) -> None:
    assert uapi.number(f"DRM_IOCTL_{name}") == TABLE[name]


def version_of(node: Node, room: int) -> tuple[bytes, int]:
    text = uapi.ffi.new("char[]", 64)
    answer = node.call("VERSION", name_len=room, name=text)
    assert (answer.version_major, answer.version_minor, answer.version_patchlevel) == (0, 0, 0)
    return uapi.ffi.string(text), answer.name_len


def test_version(node: Node) -> None:
    assert version_of(node, 63) == (b"rocket", 6)
    assert version_of(node, 3) == (b"roc", 6)
    answer = node.call("VERSION")
    assert (answer.name_len, answer.date_len, answer.desc_len) == (6, 1, 10)


def test_capabilities(node: Node) -> None:
    assert [node.call("GET_CAP", capability=c).value for c in (6, 5, 0x13, 0x14)] == [1, 3, 0, 0]
    for capability in (0, 1, 2, 7, 0x15, 1 << 40):
        assert node.error("GET_CAP", capability=capability) == errno.EOPNOTSUPP


def test_core_calls_that_work(node: Node) -> None:
    assert node.call("GET_UNIQUE").unique_len == 0
    client = node.call("GET_CLIENT", idx=0)
    assert client.pid == os.getpid() and client.magic == 0
    assert node.error("GET_CLIENT", idx=1) == errno.EINVAL
    stats = uapi.ffi.new("char[]", b"x" * 248)
    assert node.raw(0x80F86406, address_of(stats)) == 0 and bytes(uapi.ffi.buffer(stats))[:248] == bytes(248)


def test_client_name(node: Node) -> None:
    def name_error(text: bytes) -> int:
        kept = uapi.ffi.new("char[]", text)
        return node.error("SET_CLIENT_NAME", name=address_of(kept), name_len=len(text))
    assert name_error(b"camera-1") == 0 and name_error(b"") == 0 and name_error(b"x" * 64) == 0
    assert name_error(b"x" * 65) == errno.EINVAL
    assert name_error(b"two words") == errno.EINVAL
    assert node.error("SET_CLIENT_NAME", name=8, name_len=4) == errno.EFAULT


@pytest.mark.parametrize(("request_number", "expected"), [
    (0x4010640D, errno.EOPNOTSUPP),     # SET_CLIENT_CAP
    (0xC00864D2, errno.EINVAL),         # GEM_CHANGE_HANDLE
    (0xC00864BF, errno.EOPNOTSUPP), (0xC02864C3, errno.EOPNOTSUPP), (0xC01864CF, errno.EOPNOTSUPP),     # SYNCOBJ_*
    (0xC02064B2, errno.ENOSYS), (0xC01064B3, errno.ENOSYS), (0xC00464B4, errno.ENOSYS),                 # *_DUMB
    (0xC04064A0, errno.EOPNOTSUPP),     # MODE_GETRESOURCES
    (0xC06864A2, errno.EACCES),         # MODE_SETCRTC wants master
    (0x40046411, errno.EACCES),         # AUTH_MAGIC
    (0x00006444, errno.EINVAL), (0x0000649F, errno.EINVAL), (0x40186460, errno.EINVAL),     # unused driver range
    (0x00006403, errno.EINVAL), (0x000064FF, errno.EINVAL),     # core numbers without a handler
    (0x40106542, errno.ENOTTY), (0x5401, errno.ENOTTY), (0, errno.ENOTTY),      # other letters
])
def test_refused_numbers(node: Node, request_number: int, expected: int) -> None:
    data = uapi.ffi.new("char[]", 256)
    assert node.raw(request_number, address_of(data)) == expected


def test_master_calls_depend_on_capability(node: Node) -> None:
    expected = errno.EINVAL if os.geteuid() == 0 else errno.EACCES
    assert node.raw(0x641E, 0) == expected


def test_flink(node: Node, second: Node) -> None:
    bo = node.create(PAGE)
    if os.geteuid() != 0:
        assert node.error("GEM_FLINK", handle=bo.handle) == errno.EACCES
        return
    name = node.call("GEM_FLINK", handle=bo.handle).name
    assert node.error("GEM_FLINK", handle=99) == errno.ENOENT
    assert second.call("GEM_OPEN", name=name).size == PAGE
    assert second.error("GEM_OPEN", name=12345) == errno.ENOENT


def test_exclusive_open_is_busy(fake_driver: object) -> None:
    with pytest.raises(OSError) as caught:
        Node(os.O_RDWR | os.O_EXCL)
    assert caught.value.errno == errno.EBUSY


def test_close_on_exec_flag(fake_driver: object) -> None:
    with Node(os.O_RDWR | os.O_CLOEXEC) as closing, Node(os.O_RDWR) as staying:
        assert not os.get_inheritable(closing.fd) and os.get_inheritable(staying.fd)


# --- the envelope -----------------------------------------------------------------------------------------------------


def test_bad_pointers(node: Node) -> None:
    for name, number in TABLE.items():
        expected = errno.EFAULT
        assert node.raw(number, 0) == expected, name
        assert node.raw(number, 0xFFFF_8000_0000_0000) == expected, name
    assert node.call("ROCKET_CREATE_BO", size=1).handle > 0


@pytest.mark.parametrize("address", [0, 8, 0xFFFF_8000_0000_0000, (1 << 64) - 1])
@pytest.mark.parametrize(("request_number", "expected"), [
    (0x40106542, errno.ENOTTY), (0x5401, errno.ENOTTY), (0xC0186460, errno.EINVAL), (0x649F, errno.EINVAL),
    (0x40046411, errno.EACCES), (0xC06864A2, errno.EACCES), (0xFFFF_64FF, errno.EINVAL)])
def test_numbers_are_refused_whatever_the_address(node: Node, request_number: int, expected: int, address: int) -> None:
    assert node.raw(request_number, address) == expected


def test_offsets_in_the_upper_half_are_offsets(node: Node) -> None:
    for offset in (-PAGE, -1 << 63):
        ctypes.set_errno(0)
        mapped = node.library.cermet_client_mmap(None, PAGE, mmap.PROT_READ, mmap.MAP_SHARED, node.fd, offset)
        assert mapped == MAP_FAILED
        assert ctypes.get_errno() == errno.EINVAL


@pytest.mark.parametrize("num_bytes", [8, 255, 256, 257, 0x3FFF])
def test_every_size_of_an_argument(node: Node, num_bytes: int) -> None:
    """FINI_BO of any length, up to the end of what can be read: all of it is read, and none of it behind the end."""
    bo = node.create(PAGE)
    pages = mmap.mmap(-1, 5 * PAGE)
    start = address_of(uapi.ffi.from_buffer(pages))
    assert libc.mprotect(ctypes.c_void_p(start + 4 * PAGE), PAGE, 0) == 0
    number = 1 << 30 | num_bytes << 16 | 0x6443
    first = 4 * PAGE - num_bytes
    for reserved, expected in ((0, 0), (1, errno.EINVAL)):
        pages[first:first + 8] = struct.pack("<II", bo.handle, reserved)
        assert node.raw(number, start + first) == expected
    assert node.raw(number, start + first + 1) == errno.EFAULT
    assert libc.mprotect(ctypes.c_void_p(start + 4 * PAGE), PAGE, mmap.PROT_READ | mmap.PROT_WRITE) == 0


def test_unwritable_argument_leaves_the_bo(node: Node) -> None:
    """EFAULT after the handler: the BO exists though its handle was never delivered."""
    page = mmap.mmap(-1, PAGE)
    page[:4] = (100).to_bytes(4, "little")
    address = address_of(uapi.ffi.from_buffer(page))
    assert libc.mprotect(ctypes.c_void_p(address), PAGE, mmap.PROT_READ) == 0
    assert node.raw(TABLE["ROCKET_CREATE_BO"], address) == errno.EFAULT
    assert node.create(1).handle == 2
    assert libc.mprotect(ctypes.c_void_p(address), PAGE, mmap.PROT_READ | mmap.PROT_WRITE) == 0


def test_short_struct_reads_as_zero(node: Node) -> None:
    """8 bytes of PREP_BO: timeout 0, so the call polls."""
    bo = node.create(PAGE)
    data = uapi.ffi.new("__u32[2]", [bo.handle, 0])
    assert node.raw(1 << 30 | 8 << 16 | 0x6442, address_of(data)) == 0
    data = uapi.ffi.new("__u32[1]", [bo.handle])
    assert node.raw(1 << 30 | 4 << 16 | 0x6443, address_of(data)) == 0


def test_long_struct_is_not_looked_at(node: Node) -> None:
    bo = node.create(PAGE)
    data = uapi.ffi.new("__u32[16]", [bo.handle, 0, *[0xFFFF_FFFF] * 14])
    assert node.raw(1 << 30 | 64 << 16 | 0x6443, address_of(data)) == 0


def test_direction_bits_only_say_what_is_copied(node: Node) -> None:
    """CREATE_BO without its write bit reads size 0; without its read bit the answer is not delivered."""
    data = uapi.ffi.new("struct drm_rocket_create_bo *", {"size": PAGE})
    assert node.raw(2 << 30 | 24 << 16 | 0x6440, address_of(data)) == errno.ENOSPC
    data = uapi.ffi.new("struct drm_rocket_create_bo *", {"size": PAGE})
    assert node.raw(1 << 30 | 24 << 16 | 0x6440, address_of(data)) == 0
    assert data.handle == 0
    assert node.create(PAGE).handle == 2


def test_argument_at_the_end_of_a_page(node: Node) -> None:
    pages = mmap.mmap(-1, 2 * PAGE)
    start = address_of(uapi.ffi.from_buffer(pages))
    assert libc.mprotect(ctypes.c_void_p(start + PAGE), PAGE, 0) == 0
    pages[PAGE - 8:PAGE] = (1).to_bytes(4, "little") + bytes(4)
    assert node.raw(TABLE["ROCKET_FINI_BO"], start + PAGE - 8) == errno.ENOENT
    assert node.raw(TABLE["ROCKET_FINI_BO"], start + PAGE - 4) == errno.EFAULT
    assert libc.mprotect(ctypes.c_void_p(start + PAGE), PAGE, mmap.PROT_READ | mmap.PROT_WRITE) == 0


def test_generic_file_calls_stay_with_the_socket(node: Node) -> None:
    on = array.array("i", [1])
    assert node.raw(termios.FIONBIO, on.buffer_info()[0]) == 0
    assert os.get_blocking(node.fd) is False
    assert node.create(PAGE).handle == 1
    assert node.raw(termios.FIONCLEX, 0) == 0 and os.get_inheritable(node.fd)


def test_a_new_ioctl_needs_no_change_in_the_client(node: Node) -> None:
    """The fake driver has an ioctl that follows a pointer, answers in place, hands over an fd and returns a number."""
    ffi = uapi.ffi
    values = ffi.new("__u32[]", [1, 20, 300])
    data = ffi.new("__u64[3]", [address_of(values), 3, 0])
    assert node.raw(3 << 30 | 24 << 16 | 0x6450, address_of(data)) == 0
    assert node.value == 7
    words = ffi.cast("__u32 *", data)
    assert words[3] == 321
    assert not os.get_inheritable(words[4])
    assert os.read(words[4], 100) == b"from the driver"
    os.close(words[4])
    slow = ffi.new("__u32[2]", [1, errno.EXDEV])
    assert node.raw(1 << 30 | 8 << 16 | 0x6451, address_of(slow)) == errno.EXDEV


def test_a_bug_in_a_handler_is_eio(node: Node) -> None:
    assert node.raw(0x6452, 0) == errno.EIO
    assert node.create(PAGE).handle == 1


def test_job_helper_builds_what_the_header_says() -> None:
    assert Job([(0, 1)]).record["task_struct_size"] == uapi.ffi.sizeof("struct drm_rocket_task")
