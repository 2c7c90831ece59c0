"""`python -m mpanet_pl`, or `mpanet`: which commands there are, and `mpanet NAME …` one of them."""

import ast
import difflib
import sys
from importlib import import_module
from pathlib import Path


def commands() -> dict[str, str]:
    """Each door's name, and what its docstring says that it does.

    >>> commands()["summarize"]
    'a folder of runs -> one table, mean ± standard deviation over what was repeated'
    """
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        opening, _, does = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition(": ")
        if opening == f"`python -m mpanet_pl.{path.stem}`":
            found[path.stem] = does.splitlines()[0].rstrip(".")
    return found


def main() -> None:
    name, *arguments = sys.argv[1:] or ["--help"]
    known = commands()
    if name in known:
        import_module(f"mpanet_pl.{name}").main(arguments)
    elif name in ("--help", "-h"):
        lines = (f"  {command:<12}{does}" for command, does in known.items())
        print("mpanet NAME …, or python -m mpanet_pl.NAME …; each has a --help.", "", *lines, sep="\n")
    elif name == "--version":
        print(import_module("mpanet_pl").__version__)
    else:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        print(f"mpanet: There is no command '{name}'.{hint} It is one of: {', '.join(known)}.", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
