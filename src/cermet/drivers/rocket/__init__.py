"""Rockchip NPUs: lowers subgraphs to CNA/DPU register programs for accel/rocket."""
