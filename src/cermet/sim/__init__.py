"""The simulated NPU: executes register programs; knows registers, not intentions."""
