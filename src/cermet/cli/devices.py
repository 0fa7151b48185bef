"""`cermet devices`: the NPUs that the delegate could use, real ones and the simulated one."""
from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from cermet.devices import DRIVER, Device, real_devices
from cermet.hw.soc import SOCS

EPILOG = """
Exit status 0 also when there is no NPU: the list says so.

examples:
  cermet devices
  cermet devices --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def run(arguments: argparse.Namespace) -> int:
    devices = real_devices() + [Device("sim", f"simulated {soc}", "", True) for soc in SOCS]
    if arguments.json:
        print(json.dumps({"devices": [asdict(device) for device in devices]}, indent=1))
        return 0
    for device in devices:
        print(line(device))
    return 0


def line(device: Device) -> str:
    """One line for people."""
    if device.error:
        return f"{device.device}  cannot be opened: {device.error}"
    use = "" if device.usable else f", not an NPU that this project knows (driver must be {DRIVER})"
    return f"{device.device}  {device.driver} {device.version}".rstrip() + use
