"""Errors that a user can cause: one line for people, no traceback."""
from __future__ import annotations


class CermetError(Exception):
    """What is wrong, in one line: place, the value seen, what is allowed. The command prints it and exits with 1."""
