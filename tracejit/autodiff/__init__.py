"""Reverse and forward mode, shared by the eager tape and by graphs."""
