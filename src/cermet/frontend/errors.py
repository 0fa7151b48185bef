"""The error of both frontends."""
from __future__ import annotations

from cermet.errors import CermetError


class FrontendError(CermetError):
    """A model or blob that cannot be read: place, what is wrong, what is allowed."""
