"""How benchmarks print: a table in Markdown, row by row while it is measured, below the command, the day and the machine.

What is printed is kept beside the script, ``python benchmarks/NAME.py > benchmarks/NAME.md``, and the book shows it.
"""

import datetime
import shlex
import sys
from importlib import metadata
from pathlib import Path

from pgcourse.experiments import records


def made(*peers: str) -> dict:
    """Return with what, and when, this is measured; peers are packages whose versions matter too."""
    made = records.provenance()
    made["versions"] |= {name: metadata.version(name) for name in peers}
    return made | {"date": datetime.date.today().isoformat()}


def about(made: dict) -> None:
    """Print how to repeat a table, when it was measured, and with what."""
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    packages = ", ".join(
        f"{name} {version}" for name, version in made["versions"].items() if name != "pgcourse"
    )
    commit = (made["commit"] or "unknown")[:7]
    print(
        f"`{command}`\n\n{made['date']}, commit {commit}, {made['processor']}; Python {made['python']}, {packages}"
    )


def head(*columns: str) -> None:
    """Print the first row of a table."""
    print(flush=True)
    row(*columns)
    row(":---", *["---:"] * (len(columns) - 1))


def row(name: str, *cells: str) -> None:
    """Print another."""
    print(f"| {name:40} |", *(f"{cell:>12} |" for cell in cells), flush=True)
