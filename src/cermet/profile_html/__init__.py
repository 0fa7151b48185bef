"""A profile as one HTML page."""
