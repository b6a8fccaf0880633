"""Result files that outlive a run which is cut off, and that a later run goes on with."""
