"""Small register programs, each of which settles one open question about the hardware."""
