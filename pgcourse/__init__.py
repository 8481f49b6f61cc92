"""Reference implementations for a book on policy gradient methods.

Import the module you need, such as ``pgcourse.algorithms.reinforce``; each holds one idea. A folder imports
only from those before it: maths, environments, networks, algorithms, experiments, teaching.
"""

__version__ = "0.1.0"
