"""The driver without hardware: every operation by its numerics, in NumPy."""
