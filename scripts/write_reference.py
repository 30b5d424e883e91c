"""Write docs/reference/command-line.md, the help of every command, from the code itself.

    python scripts/write_reference.py [--check]

With --check, fail where it is out of date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from click import Context

from generated import write_or_check
from toplabel.cli.group import toplabel

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "command-line.md"
HEAD = """# Command line

What `--help` prints, of every command. The first word is a command, or else an input to label.
"""


def main() -> int:
    """Write the page, or say that it is out of date."""
    return write_or_check(PAGE, reference())


def reference() -> str:
    """The whole page."""
    group = Context(toplabel, info_name="toplabel", terminal_width=100, **toplabel.context_settings)
    parts = [HEAD, section("toplabel", toplabel.get_help(group))]
    for name in toplabel.list_commands(group):
        command = toplabel.get_command(group, name)
        assert command is not None
        context = Context(command, group, name, terminal_width=100)
        parts.append(section(f"toplabel {name}", command.get_help(context)))
    return "\n".join(parts)


def section(heading: str, text: str) -> str:
    """A command's help below its name."""
    return f"## {heading}\n\n```text\n{text.rstrip()}\n```\n"


if __name__ == "__main__":
    sys.exit(main())
