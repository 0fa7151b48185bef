"""Cermet: an open NPU driver stack. See docs/architecture.md."""
