"""Where the time of one inference goes: the data behind `cermet profile`."""
