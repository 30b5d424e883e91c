"""Network facts: a checkpoint with its class or script in, what inspect says of the network out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toplabel._internal.notices import collect_warnings
from toplabel.errors import ToplabelError
from toplabel.models.advice import presets_for
from toplabel.models.input_size import InputSize, find_input_size
from toplabel.models.inspect import Description, describe_checkpoint
from toplabel.models.options import ModelOptions
from toplabel.models.script.resolve import Resolved
from toplabel.models.sources.checkpoint import Network, open_network
from toplabel.preprocess.preprocess import Preprocess


def describe_network(path: Path, options: ModelOptions) -> Description:
    """What the file is, its network, what that takes, what a script says, and what is lacking."""
    known = dict(describe_checkpoint(path, ema=options.ema, state_dict=options.state_dict).facts)
    with collect_warnings() as noticed:
        try:
            found, network = open_network(path, options)
        except ToplabelError as error:
            return Description(facts=known, problem=str(error))
        size = find_input_size(network.module.eval(), data_set=path.name)
        said = network.said
        facts = known | dict(_facts(network, size))
        doubts = [*noticed, *(said.doubts if said else ())]
    if doubts:
        facts["warnings"] = [str(doubt) for doubt in doubts]
    stated = said.options if said else options
    missing = []
    if found.preprocess is None and stated.preprocess is None:
        missing += [f"--preprocess {name} ({values})" for name, values in presets_for(size).items()]
    if found.labels is None and stated.labels is None:
        missing.append("--labels classes.txt (else labels are indices)")
    problem = str(said.problem) if said and said.problem else ""
    if not missing and not problem:
        facts["command"] = _command(path, options)
    return Description(facts=facts, missing=tuple(missing), problem=problem)


def _facts(network: Network, size: InputSize) -> Iterator[tuple[str, Any]]:
    yield "network", network.name
    yield "loaded", f"{network.share:.1%} of the parameters"
    yield "takes", str(size)
    if network.said is not None:
        yield "script", network.said.sentence
        yield from _of_script(network.said)


def _of_script(said: Resolved) -> Iterator[tuple[str, Any]]:
    preprocess, labels = said.options.preprocess, said.options.labels
    if isinstance(preprocess, Preprocess):
        yield "preprocess", preprocess.to_dict()
    elif preprocess is not None:
        yield "preprocess", "the script's own steps, which are run as they are"
    if isinstance(labels, list):
        yield "labels", labels


def _command(path: Path, options: ModelOptions) -> str:
    """The one command that labels an image with it."""
    from shlex import join

    given = [("--arch", options.arch), ("--script", options.script)]
    flags = [part for flag, value in given if value for part in (flag, str(value))]
    flags += [p for name, v in options.arch_args.items() for p in ("--arch-arg", f"{name}={v}")]
    return join(["toplabel", "IMAGE", "-m", str(path), *flags])
