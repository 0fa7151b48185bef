"""Quantised networks written layer by layer: the random ones, the known architectures, and the shrunken regressions."""
