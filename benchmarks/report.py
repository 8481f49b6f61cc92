"""How benchmarks print: the command, the day and the machine, then a table in Markdown, row by row.

The output is kept beside the script, ``python benchmarks/NAME.py > benchmarks/NAME.md``, and the book shows
it.
"""

import datetime
import shlex
import sys
from importlib import metadata
from pathlib import Path

from pgcourse.experiments import records


def provenance(*peers: str) -> dict:
    """Return when, on what and with which versions this is measured; peers are packages that matter too."""
    made = records.provenance()
    made["versions"] |= {name: metadata.version(name) for name in peers}
    return made | {"date": datetime.date.today().isoformat()}


def print_provenance(made: dict) -> None:
    """Print the command that repeats the measurement, its date, commit, machine and versions."""
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    packages = ", ".join(
        f"{name} {version}" for name, version in made["versions"].items() if name != "pgcourse"
    )
    commit = (made["commit"] or "unknown")[:7]
    machine = f"{made['processor']}; Python {made['python']}, {packages}"
    print(f"`{command}`\n\n{made['date']}, commit {commit}, {machine}")


def print_header(*columns: str) -> None:
    """Print the first row of a table, the names of its columns."""
    print(flush=True)
    print_row(*columns)
    print_row(":---", *["---:"] * (len(columns) - 1))


def print_row(name: str, *cells: str) -> None:
    """Print a row of a table."""
    print(f"| {name:40} |", *(f"{cell:>12} |" for cell in cells), flush=True)
