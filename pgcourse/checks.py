"""Checks of arguments: each raises a ``ValueError`` that names the argument, its value and what is allowed."""
