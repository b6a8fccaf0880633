"""Whether the run is being ended, for work that takes long and that nothing else would stop."""

from threading import Event

ending = Event()
"""Set by the signals that end a run; they are the process's, and so is this."""
