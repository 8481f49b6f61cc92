"""Reference implementations for a book on policy gradient methods.

Import the module you need (``from pgcourse import logistic``); each holds one idea. Nothing heavy is imported before that.
"""

__version__ = "0.1.0"
