"""The command group: the first word in, the command of that name out; without one, `predict`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import click

from toplabel._version import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS = {
    "predict": "toplabel.cli.predict:predict",
    "run": "toplabel.cli.run:run",
    "train": "toplabel.cli.train:train",
    "explain": "toplabel.cli.explain:explain",
    "calibrate": "toplabel.cli.calibrate:calibrate",
    "compare": "toplabel.cli.compare:compare",
    "doctor": "toplabel.cli.doctor:doctor",
    "evaluate": "toplabel.cli.evaluate:evaluate",
    "models": "toplabel.cli.models:models",
    "inspect": "toplabel.cli.inspect:inspect",
    "optimize": "toplabel.cli.optimize:optimize",
    "pack": "toplabel.cli.pack:pack",
    "serve": "toplabel.cli.serve:serve",
    "cache": "toplabel.cli.cache:cache",
    "completion": "toplabel.cli.completion:completion",
}
"""Each command and its function; the file is imported when the command is called."""

DEFAULT = "predict"

HELP = """Label images with a PyTorch classifier.

\b
toplabel cat.jpg                  the label of an image
toplabel photos/ '*.png' --json   folders, patterns; one JSON record per line
toplabel cat.jpg -m resnet50      another model; toplabel models lists them
cat cat.jpg | toplabel - -q       standard input; only the label
toplabel photos/ -o labels.csv    a run: each image once; the same command resumes it
"""

EPILOG = """To label a file or folder that has the name of a command, write its path: ./models

Exit status: 0 all inputs labelled, 1 some inputs failed, 2 error, 130 or 143 interrupted.
"""


class LazyGroup(click.Group):
    """A click group that imports a command when it is named, and has a default one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        from importlib import import_module

        module, _, function = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(module), function)
        assert isinstance(command, click.Command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in front if the first word is not a command."""
        if ctx.resilient_parsing and not args:  # a shell asks what the first word may be
            return super().parse_args(ctx, args)
        first = args[0] if args else ""
        if first not in (*COMMANDS, "-h", "--help", "--version"):
            _check_may_be_input(first)
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What the first word may be."""
        from toplabel.cli.completion import complete_first_word

        if incomplete.startswith("-"):
            default = self.get_command(ctx, DEFAULT)
            assert default is not None
            return default.shell_complete(click.Context(default, ctx), incomplete)
        return complete_first_word(self, ctx, incomplete)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The main job first: it needs no command."""
        formatter.write_usage(ctx.command_path, "INPUT... [OPTIONS]")
        formatter.write_usage(ctx.command_path, "COMMAND ...", prefix="       ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The default command's options, then the commands."""
        default = self.get_command(ctx, DEFAULT)
        assert default is not None
        default.format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group(
    cls=LazyGroup,
    help=HELP,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def toplabel() -> None:
    """The whole command line."""


_MEANT = {
    "train": "fit learn finetune fine-tune teach retrain",
    "predict": "classify label infer inference detect recognize recognise",
    "evaluate": "test validate validation val eval score benchmark bench accuracy",
    "pack": "export convert save compile onnx quantize optimize optimise build",
    "inspect": "info describe show summary check verify model",
    "doctor": "diagnose debug fix",
    "explain": "gradcam cam heatmap saliency visualize visualise",
    "compare": "diff",
    "models": "list zoo",
    "serve": "server api app start",
    "--version": "version",
    "--help": "help usage",
}
"""What other tools call a command."""


def _check_may_be_input(word: str) -> None:
    """Stop where the first word is no command, and no input either: just a word, and no file.

    Raises:
        click.UsageError: The message names the command that may be meant.
    """
    if not re.fullmatch(r"[\w-]+", word) or word.startswith("-") or os.path.lexists(word):
        return
    from difflib import get_close_matches  # only for a word that is neither file nor command

    lower = word.lower().replace("_", "-")
    meant = {one: name for name, words in _MEANT.items() for one in words.split()}
    completed = [name for name in COMMANDS if len(word) >= 3 and name.startswith(lower)]
    close = get_close_matches(lower, [*COMMANDS, *meant], n=1, cutoff=0.7)
    guess = (
        [meant[lower]] if lower in meant else completed or [meant.get(one, one) for one in close]
    )
    hint = f"did you mean {guess[0]!r}?" if guess else f"the commands are {', '.join(COMMANDS)}"
    raise click.UsageError(f"there is no command and no file {word!r}; {hint}")
