"""`cermet devices`: nodes and the simulated NPU."""
from __future__ import annotations

import json
from pathlib import Path

import pytest

from cermet import devices
from cermet.cli.devices import line
from tests.cli.conftest import Cermet


def test_simulated_device_is_always_there(cermet: Cermet) -> None:
    result = cermet("devices", "--json")
    assert result.status == 0
    found = json.loads(result.out)["devices"]
    assert found[-1] == {"device": "sim", "driver": "simulated rk3588", "version": "", "usable": True, "error": ""}
    assert cermet("devices").out.splitlines()[-1] == "sim  simulated rk3588"


def test_nodes_that_are_no_devices_are_told(tmp_path: Path) -> None:
    (tmp_path / "accel10").write_text("no device")
    (tmp_path / "accel2").write_text("no device")
    (tmp_path / "accel3").mkdir()
    found = devices.real_devices(tmp_path)
    assert [Path(device.device).name for device in found] == ["accel2", "accel3", "accel10"]
    assert not any(device.usable for device in found)
    assert line(found[0]) == f"{tmp_path}/accel2  cannot be opened: Inappropriate ioctl for device"


def test_other_drivers_are_listed_as_not_usable() -> None:
    text = line(devices.Device("/dev/accel/accel0", "ivpu", "1.0.0", False))
    assert text == "/dev/accel/accel0  ivpu 1.0.0, not an NPU that this project knows (driver must be rocket)"


def test_version_ioctl_is_the_headers() -> None:
    """_IOWR('d', 0x00, struct drm_version), which has 64 bytes on LP64."""
    assert devices.DRM_IOCTL_VERSION == 0xC0406400


@pytest.mark.usefixtures("needs_delegate")
def test_delegate_path_is_the_librarys(cermet: Cermet) -> None:
    result = cermet("delegate-path")
    assert result.status == 0 and Path(result.out.strip()).name == "libcermet_delegate.so"
