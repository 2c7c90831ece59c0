"""KEY=VALUE arguments, as they have to be written for the grammar of the command line and for a shell."""

import re
import shlex


def typed(key: str, value: object) -> str:
    """KEY=VALUE to be pasted into a shell.

    >>> print(typed("data_dir", "/data/my cameras"), typed("data_dir", "x=1"))
    'data_dir=/data/my cameras' 'data_dir="x=1"'
    """
    text = str(value)
    return shlex.quote(f"{key}={quoted(text) if re.search(r'[^A-Za-z0-9_ ./+-]', text) else text}")


def quoted(text: str) -> str:
    """A text that the grammar is to read as it stands.

    >>> print(quoted("3 o'clock"), quoted('the "best"'))
    "3 o'clock" "the \\"best\\""
    """
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text)
    return f'"{escaped}"'
