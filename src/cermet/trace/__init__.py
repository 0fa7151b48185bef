"""Trace files: what programs asked of NPU nodes, read back and run again in the simulator."""
