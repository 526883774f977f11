"""Turns what a failed container, Job or source left behind into a code, a cause, a remedy and a way to retry. Pure."""
