"""Facts about the hardware, as data: registers and SoC constants. No behaviour."""
