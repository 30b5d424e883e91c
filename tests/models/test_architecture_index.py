"""The shipped index is what its script builds, small, and read without torch."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from toplabel.models import zoo_import
from toplabel.models.architectures.index import (
    INDEX_FILE,
    Free,
    Group,
    Member,
    load_index,
    read_index,
)

SCRIPT = Path(__file__).parents[2] / "scripts/build_architecture_index.py"

SAMPLE = [
    ("torchvision", "resnet18", {}),
    ("torchvision", "googlenet", {"aux_logits": True}),
    ("torchvision", "mobilenet_v2", {}),
    ("torchvision", "vit_b_32", {}),
    ("timm", "vit_tiny_patch16_224", {}),
    ("timm", "deit_tiny_distilled_patch16_224", {}),
    ("timm", "swin_tiny_patch4_window7_224", {}),
    ("timm", "tresnet_m", {}),
    ("timm", "tf_efficientnet_lite0", {}),
    ("timm", "convnext_atto", {}),
]


def member_group(library: str, name: str, arguments: dict) -> Group:
    for group in load_index().groups():
        for member in group.members:
            if (member.library, member.name, member.arguments) == (library, name, arguments):
                return group
    raise AssertionError(f"{library}/{name} is not in the index")


@pytest.mark.slow
@pytest.mark.torch
def test_the_index_is_what_its_script_builds() -> None:
    describe = runpy.run_path(str(SCRIPT))["describe"]
    for library, name, arguments in SAMPLE:
        built = describe(library, name, arguments)
        shipped = member_group(library, name, arguments)
        assert (built.names_key, built.shapes_key, built.free) == (
            shipped.names_key,
            shipped.shapes_key,
            shipped.free,
        )
        assert built.members[0] in shipped.members


@pytest.mark.torch
def test_the_index_has_every_classification_architecture_of_torchvision() -> None:
    models = zoo_import.import_torchvision().models
    indexed = {
        m.name for g in load_index().groups() for m in g.members if m.library == "torchvision"
    }
    assert indexed >= set(models.list_models(module=models))


def test_the_index_has_nearly_all_of_timm_and_is_small() -> None:
    names = {m.name for g in load_index().groups() for m in g.members if m.library == "timm"}
    assert len(names) > 1200
    assert INDEX_FILE.stat().st_size < 250_000
    assert set(load_index().versions) == {"torchvision", "timm"}


def test_identifying_needs_no_torch() -> None:
    code = (
        "import sys; from toplabel.models.architectures.identify import identify;"
        "identify({'a.weight': (3,)});"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.torch
def test_groups_are_written_and_read_back_the_same(tmp_path: Path) -> None:
    write_index = runpy.run_path(str(SCRIPT))["write_index"]
    members = (
        Member("timm", "a"),
        Member("timm", "b", {}, 224),
        Member("torchvision", "c", {"aux_logits": False}),
    )
    free = (Free(3, 0, "classes", 1, 0), Free(5, 1, "image_size", 16, 1))
    group = Group("names", "shapes", free, members)
    write_index(tmp_path / "one.gz", [group], {"timm": "1"})
    write_index(tmp_path / "two.gz", [group], {"timm": "1"})
    assert read_index(tmp_path / "one.gz").find("names") == [group]
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()


@pytest.mark.parametrize(
    ("free", "size", "value"),
    [
        (Free(0, 0, "classes", 1, 0), 37, 37),
        (Free(0, 0, "in_channels", 16, 0), 48, 3),
        (Free(0, 0, "in_channels", 16, 0), 40, None),
        (Free(0, 0, "in_channels", 1, 2), 2, None),
        (Free(0, 1, "image_size", 16, 1), 577, 384),
        (Free(0, 1, "image_size", 16, 1), 578, None),
        (Free(0, 1, "image_size", 16, 1), 0, None),
    ],
)
def test_a_free_size_says_what_it_depends_on(free: Free, size: int, value: int | None) -> None:
    assert free.solve(size) == value
