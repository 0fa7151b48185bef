"""One package per NPU family, behind the Driver interface of cermet.drivers.base."""
