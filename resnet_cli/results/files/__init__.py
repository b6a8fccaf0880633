"""Rows in, files out that survive a run that is cut off, and that a later run can resume."""
