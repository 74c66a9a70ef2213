"""What a verb shows: JSON for machines, a table for people, a progress bar on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

_ESTIMATED = 3600.0  #: seconds of past steps the time left is reckoned from: a layer may take minutes


class Failure(Exception):
    """The work itself failed or a comparison mismatched: exit status 1."""


def plain(value: Any) -> Any:
    """``value`` with NumPy scalars and arrays, paths and tuples turned into what JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return str(value)


def show(result: Mapping[str, Any], as_json: bool, human: Callable[[], None]) -> None:
    """Print ``result`` as one JSON object, or let ``human`` print it."""
    if as_json:
        print(json.dumps(plain(result), indent=2))
    else:
        human()


def table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> None:
    """Print rows that share their keys, headings from the first row's."""
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", pad_edge=False)
    for key, value in (rows[0] if rows else {}).items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        drawn.add_column(key, justify="right" if number else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(cell(value) for value in row.values()))
    # Piped output is not cut to a screen's width.
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(drawn)


def cell(value: Any) -> str:
    """One table cell: integers with separators, floats to four digits."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return " ".join(cell(item) for item in value)
    return str(value)


@contextmanager
def progress(description: str) -> Iterator[Callable[[float, str], None]]:
    """A bar on standard error, with the time left, moved by ``(share of the work done, what is being done)``.

    Silent when standard error is no terminal.
    """
    if not sys.stderr.isatty():
        yield lambda share, doing: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(
        *columns,
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        speed_estimate_period=_ESTIMATED,
    ) as bar:
        task = bar.add_task(description, total=1.0)
        yield lambda share, doing: bar.update(task, completed=share, description=f"{description}: {doing}")
