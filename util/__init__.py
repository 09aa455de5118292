"""Helpers that know nothing of the paper: errors, files, devices, processes, command lines, overlaid masks."""
