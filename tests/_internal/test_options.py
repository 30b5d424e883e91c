"""Options: one dataclass, and what signatures, docstrings, refusals and flags make of it."""

import inspect
import pydoc
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_type_hints

import click
import pytest
from click.testing import CliRunner

import toplabel
from toplabel._internal.options import given_options, option, takes_options
from toplabel.cli.options import as_flags, flags_of, take
from toplabel.models.options import InferenceOptions, ModelOptions
from toplabel.runs.options import RunOptions


@dataclass(frozen=True, kw_only=True)
class PaintOptions:
    colour: str = option("red", help="What to paint with.", choices=("red", "blue"))
    coats: int | None = option(None, help="How often.", minimum=0)
    mixed: dict[str, int] = option(factory=dict, help="What else.", python="Also a mapping.")
    primed: bool = option(False, help="Prime it first.")
    brush: object = option(None, help="Only Python has brushes.", shell=False)


PaintOptions.__dataclass_fields__["coats"].type = "int | None"
PaintOptions.__dataclass_fields__["primed"].type = "bool"


@takes_options(PaintOptions)
def paint(wall: str, *, paint_options: PaintOptions) -> PaintOptions:
    """Paint a wall.

    Args:
        wall: Which.

    Raises:
        ValueError: It is wet.
    """
    return paint_options


def test_a_function_takes_each_field_by_name() -> None:
    assert paint("north", colour="blue", coats=2) == PaintOptions(colour="blue", coats=2)


def test_the_signature_and_the_docstring_have_every_field() -> None:
    assert list(inspect.signature(paint).parameters) == [
        "wall",
        *(f.name for f in fields(PaintOptions)),
    ]
    assert "        mixed: What else. Also a mapping.\n" in (paint.__doc__ or "")
    assert (paint.__doc__ or "").index("brush:") < (paint.__doc__ or "").index("Raises:")


def test_an_unknown_name_says_what_was_meant() -> None:
    with pytest.raises(
        TypeError, match=r"paint\(\) got an unexpected argument 'coat'; did you mean"
    ):
        paint("north", coat=2)


@pytest.mark.parametrize(
    ("function", "groups"),
    [
        ("load", (ModelOptions, InferenceOptions)),
        ("label", (ModelOptions, InferenceOptions)),
        ("wrap", (InferenceOptions,)),
        ("run", (RunOptions, ModelOptions, InferenceOptions)),
        ("diagnose", (ModelOptions,)),
    ],
)
def test_public_functions_spell_their_options_out(function: str, groups: tuple[type, ...]) -> None:
    shown = inspect.signature(getattr(toplabel, function)).parameters
    expected = [one for group in groups for one in fields(group)]
    names = [  # of a run, "output" is where records go
        "model_output" if (function, one.name) == ("run", "output") else one.name
        for one in expected
    ]
    assert [shown[name].default for name in names] == [
        one.default_factory() if callable(one.default_factory) else one.default for one in expected
    ]
    with pytest.raises(TypeError, match="did you mean 'arch_args'|unexpected argument 'arch_arg'"):
        getattr(toplabel, function)("x", arch_arg={})


MADE_BY_USERS = (toplabel.Labels, toplabel.Predictor, toplabel.Preprocess, toplabel.ReadOptions)


def called_by_users() -> dict[str, Callable[..., Any]]:
    """Every public function, the classes that users make, and the methods with options."""
    public = [getattr(toplabel, name) for name in toplabel.__all__]
    found = [one for one in public if inspect.isfunction(one) or one in MADE_BY_USERS]
    for name, one in vars(toplabel.Predictor).items():
        public_name = not name.startswith("_") or name == "__call__"
        if inspect.isfunction(one) and public_name and keywords_of(one):
            found.append(one)
    return {one.__qualname__: one for one in found}


def keywords_of(called: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(called).parameters.values()
    return [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]


def test_what_users_call_is_found() -> None:
    functions = {
        "calibrate",
        "compare",
        "diagnose",
        "evaluate",
        "explain",
        "label",
        "load",
        "optimize",
        "run",
    }
    functions |= {"read_image", "read_labels", "train"}
    names = ("__call__", "batch_labeller", "embed", "predict_tensor", "stream")
    methods = {f"Predictor.{name}" for name in names}
    classes = {one.__name__ for one in MADE_BY_USERS}
    assert called_by_users().keys() == functions | {"wrap"} | methods | classes


@pytest.mark.parametrize("name", called_by_users())
def test_whatever_users_call_answers_an_unknown_argument_with_the_nearest(name: str) -> None:
    called = called_by_users()[name]
    for known in keywords_of(called) or [*inspect.signature(called).parameters]:
        expected = f"{name}() got an unexpected argument '{known}_'; did you mean '{known}'?"
        with pytest.raises(TypeError, match=re.escape(expected)):
            called(**{f"{known}_": None})


@pytest.mark.parametrize("name", called_by_users())
def test_whatever_users_call_shows_each_argument_with_its_type_and_default(name: str) -> None:
    called = called_by_users()[name]
    shown = inspect.signature(called)
    text = pydoc.render_doc(called, renderer=pydoc.plaintext)
    for one in shown.parameters.values():
        assert one.name == "self" or one.annotation is not one.empty
        assert one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
        if one.kind is one.KEYWORD_ONLY and (name, one.name) not in REQUIRED:
            assert one.default is not one.empty
    assert str(shown).partition(" -> ")[0] in text


REQUIRED = {("wrap", "preprocess"), *(("Preprocess", one) for one in ("input_size", "mean", "std"))}


def test_only_what_differs_from_the_defaults_was_given() -> None:
    assert given_options(PaintOptions(coats=0)) == {"coats": 0}


def test_flags_are_made_of_the_same_fields() -> None:
    @click.command()
    @flags_of(PaintOptions)
    def command(**options: object) -> None:
        click.echo(repr(take(PaintOptions, options)))

    def run(*arguments: str) -> str:
        return CliRunner().invoke(command, arguments).output

    assert run() == "{}\n"
    assert run("--coats", "0", "--primed") == "{'coats': 0, 'primed': True}\n"
    assert "is not in the range" in run("--coats", "-1")
    assert "'green' is not one of" in run("--colour", "green")
    assert "--brush" not in run("--help")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pass arch_args={'num_classes': 10}", "pass --arch-arg num_classes=10"),
        ("pass arch_args={'width': ..., 'k': 2}", "pass --arch-arg width=... --arch-arg k=2"),
        ("pass allow_partial=True", "pass --allow-partial"),
        ('pass preprocess="imagenet-crop-256-224"', "pass --preprocess imagenet-crop-256-224"),
        ("pass labels=... for names", "pass --labels for names"),
        ("pass its input size: size=...", "pass its input size: --size"),
        ("pass allow_globals=['a.b', 'c.d']", "pass --allow-global a.b --allow-global c.d"),
        ("x=1 and read=... stay", "x=1 and read=... stay"),
        ("pass arch_args={'a': 'x,y', 'b': [1, 2]}", "pass --arch-arg a=x,y --arch-arg b=[1, 2]"),
        (
            "cannot read 'http://h/a?size=3&format=jpg'",
            "cannot read 'http://h/a?size=3&format=jpg'",
        ),
        ("labels=x.jpg: it is empty", "labels=x.jpg: it is empty"),
        ("labels=''.jpg and arch=\"\" and labels=[]", "labels=''.jpg and arch=\"\" and labels=[]"),
    ],
)
def test_messages_speak_of_flags_on_the_command_line(text: str, shown: str) -> None:
    assert as_flags(text) == shown


def test_type_hints_of_a_function_with_options_can_be_asked_for() -> None:
    assert get_type_hints(toplabel.load) == {}


def test_a_wrong_call_counts_what_the_caller_sees() -> None:
    with pytest.raises(TypeError, match=r"paint\(\) too many positional arguments"):
        paint("north", "south")


def test_an_unknown_name_is_answered_with_the_mapping_that_it_belongs_in() -> None:
    from toplabel.errors import UsageError

    for given in ({"num_classes": 10}, {"num_labels": 10, "arch": "nets.py:MyCNN"}):
        with pytest.raises(
            UsageError, match=r"goes into arch_args=\{\"num_(classes|labels)\": 10\}"
        ):
            toplabel.load("model.pth", **given)
    with pytest.raises(TypeError, match="did you mean 'labels'"):
        toplabel.load("model.pth", label=["a"])
    for name, meant in (("val_transform", "preprocess"), ("names", "labels"), ("net", "arch")):
        with pytest.raises(
            TypeError, match=f"unexpected argument '{name}'; did you mean '{meant}'"
        ):
            toplabel.load("model.pth", **{name: None})


SCREEN = 56
"""Lines of a docstring, beside the signature above it."""
SHAPES = {
    "Predictor.__call__": "(H, W, 3)",
    "Predictor.embed": "(N, D)",
    "Predictor.predict_tensor": "(N, C, H, W)",
    "compare": "(C, h, w)",
    "explain": "(H, W)",
    "load": "(C, h, w)",
    "read_image": "(H, W, 3)",
    "ReadOptions": "pixels",
    "Preprocess": "(height, width)",
}
"""What the help of those that take or give arrays must say of them."""


@pytest.mark.parametrize("name", called_by_users())
def test_the_help_of_what_users_call_fits_a_screen_and_tells_arguments_errors_shapes(
    name: str,
) -> None:
    called = called_by_users()[name]
    text = inspect.getdoc(called) or ""
    assert len(text.splitlines()) <= SCREEN
    for one in inspect.signature(called).parameters:
        assert one == "self" or re.search(rf"\b{one}\b", text), one
    if inspect.isfunction(called) or name == "ReadOptions":
        assert "Raises:" in text
    assert SHAPES.get(name, "") in text


VALUES = [
    one
    for one in (getattr(toplabel, name) for name in toplabel.__all__)
    if is_dataclass(one) and isinstance(one, type)
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_the_help_of_a_value_tells_each_of_its_fields(value: type) -> None:
    text = inspect.getdoc(value) or ""
    for one in fields(value):
        assert one.name.startswith("_") or re.search(rf"\b{one.name}\b", text), one.name
