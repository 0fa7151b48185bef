"""Opening, identity, and the DRM core's calls on this node."""
from __future__ import annotations

import ctypes
import errno
import os

import pytest

from .laboratory import Laboratory, in_child
from .uapi import IOCTLS, PAGE, Node, Version, number


def version(node: Node) -> tuple[tuple[int, int, int], bytes, bytes, bytes]:
    """(numbers, name, date, description)"""
    texts = [ctypes.create_string_buffer(64) for _ in range(3)]
    name, date, desc = (ctypes.cast(text, ctypes.c_char_p) for text in texts)
    got = node.call("VERSION", name_len=64, name=name, date_len=64, date=date, desc_len=64, desc=desc)
    return (got.major, got.minor, got.patch), *(text.value for text in texts)


def test_open_twice(lab: Laboratory) -> None:
    one, other = lab.open(), lab.open()
    assert one.create().handle == other.create().handle == 1


def test_open_many(lab: Laboratory) -> None:
    assert all(lab.open().create().handle == 1 for _ in range(64))


def test_open_exclusively(lab: Laboratory) -> None:
    with pytest.raises(OSError) as failure:
        lab.open(os.O_RDWR | os.O_EXCL)
    assert failure.value.errno == errno.EBUSY


def test_open_read_only(lab: Laboratory) -> None:
    """Ioctls work; only writable mappings do not."""
    node = lab.open(os.O_RDONLY)
    bo = node.create()
    assert node.mmap_error(bo.offset) == errno.EACCES
    assert node.mmap_error(bo.offset, protection=1) == 0


def test_close_on_exec(lab: Laboratory) -> None:
    assert not os.get_inheritable(lab.open(os.O_RDWR | os.O_CLOEXEC).fd)
    assert os.get_inheritable(lab.open(os.O_RDWR).fd)


def test_dup_shares_the_file(node: Node) -> None:
    bo = node.create()
    original, node.fd = node.fd, os.dup(node.fd)
    os.close(original)
    assert node.create().handle == bo.handle + 1
    assert node.error("GEM_CLOSE", handle=bo.handle) == 0


def test_fork_shares_the_file(node: Node) -> None:
    bo = node.create()

    def use() -> None:
        assert node.create().handle == 2 and node.error("GEM_CLOSE", handle=bo.handle) == 0
    assert in_child(use) == 0
    assert node.create().handle == 1


def test_version_names(node: Node) -> None:
    assert version(node)[1:] == (b"rocket", b"0", b"rocket DRM")


def test_version_is_set(node: Node) -> None:
    """The driver's own comment speaks of 1.0."""
    assert version(node)[0] >= (1, 0, 0)


def test_version_gives_lengths_without_buffers(node: Node) -> None:
    got = node.call("VERSION")
    assert (got.name_len, got.date_len, got.desc_len) == (6, 1, 10)


def test_version_into_a_short_buffer(node: Node) -> None:
    """As much as fits, the full length, nothing behind it."""
    text = ctypes.create_string_buffer(b"xxxxxxxx")
    got = node.call("VERSION", name_len=3, name=ctypes.cast(text, ctypes.c_char_p))
    assert text.raw == b"rocxxxxx\0" and got.name_len == 6


def test_version_into_a_bad_buffer(node: Node) -> None:
    struct = Version(name_len=6, name=ctypes.cast(8, ctypes.c_char_p))
    assert node.raw(IOCTLS["VERSION"][0], ctypes.addressof(struct)) == errno.EFAULT


def test_unique_is_empty(node: Node) -> None:
    assert node.call("GET_UNIQUE", length=64).length == 0


def test_client(node: Node) -> None:
    assert node.call("GET_CLIENT", idx=0).pid == os.getpid()


def test_client_of_another_index(node: Node) -> None:
    assert node.error("GET_CLIENT", idx=1) == errno.EINVAL


@pytest.mark.parametrize(("capability", "value"), [(0x6, 1), (0x5, 3), (0x13, 0), (0x14, 0)],
                         ids=["timestamp-monotonic", "prime", "syncobj", "syncobj-timeline"])
def test_capability(node: Node, capability: int, value: int) -> None:
    if capability == 0x13 and node.features:
        pytest.skip("the proposed queues come with sync objects")
    assert node.call("GET_CAP", capability=capability).value == value


@pytest.mark.parametrize("capability", [0, 0x1, 0x10, 0x15, 0xFFFF, 1 << 63], ids=hex)
def test_capability_unknown(node: Node, capability: int) -> None:
    assert node.error("GET_CAP", capability=capability) == errno.EOPNOTSUPP


@pytest.mark.parametrize(("index", "expected"), [
    (0x0D, errno.EOPNOTSUPP), (0xB2, errno.ENOSYS), (0xB3, errno.ENOSYS), (0xB4, errno.ENOSYS),
    (0xA0, errno.EOPNOTSUPP), (0xBF, errno.EOPNOTSUPP), (0xC0, errno.EOPNOTSUPP), (0xCA, errno.EOPNOTSUPP),
    (0xA2, errno.EACCES), (0xD2, errno.EINVAL), (0x11, errno.EACCES)],
    ids=["set-client-cap", "create-dumb", "map-dumb", "destroy-dumb", "mode-getresources", "syncobj-create",
         "syncobj-destroy", "syncobj-timeline-wait", "mode-setcrtc", "gem-change-handle", "auth-magic"])
def test_refused(node: Node, index: int, expected: int) -> None:
    if index in (0xBF, 0xC0) and node.features:
        pytest.skip("the proposed queues come with sync objects")
    argument = ctypes.create_string_buffer(256)
    assert node.raw(number(index, 3, 32), ctypes.addressof(argument)) == expected


def test_client_name(node: Node) -> None:
    text = ctypes.create_string_buffer(b"conformance")
    assert node.error("SET_CLIENT_NAME", length=11, name=ctypes.addressof(text)) == 0


@pytest.mark.parametrize("text", [b"two words", b"tab\there", b"\x7f", b"caf\xc3\xa9"], ids=repr)
def test_client_name_with_invisible_characters(node: Node, text: bytes) -> None:
    buffer = ctypes.create_string_buffer(text)
    assert node.error("SET_CLIENT_NAME", length=len(text), name=ctypes.addressof(buffer)) == errno.EINVAL


def test_client_name_too_long(node: Node) -> None:
    buffer = ctypes.create_string_buffer(b"x" * 100)
    assert node.error("SET_CLIENT_NAME", length=65, name=ctypes.addressof(buffer)) == errno.EINVAL
    assert node.error("SET_CLIENT_NAME", length=64, name=ctypes.addressof(buffer)) == 0


def is_admin() -> bool:
    with open("/proc/self/status") as file:
        effective = next(line for line in file if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> 21 & 1)


def test_flink(node: Node, second: Node) -> None:
    """Global names need CAP_SYS_ADMIN at open."""
    bo = node.create(2 * PAGE)
    if not is_admin():
        assert node.error("GEM_FLINK", handle=bo.handle) == errno.EACCES
        assert node.error("GEM_OPEN", name=1) == errno.EACCES
        return
    name = node.call("GEM_FLINK", handle=bo.handle).name
    assert name and node.call("GEM_FLINK", handle=bo.handle).name == name
    opened = second.call("GEM_OPEN", name=name)
    assert opened.size == 2 * PAGE
    assert node.error("GEM_FLINK", handle=99) == node.error("GEM_OPEN", name=0x7FFF_FFFF) == errno.ENOENT
