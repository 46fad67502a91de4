"""The commands, one module each. A module is imported when its command runs, so that `--help` costs nothing of it.

What a module needs beside typer and the standard library it imports inside its function, for the same reason.
"""
