"""Documents say what is so: their code runs, their commands and options exist, their links lead."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import toplabel
from documents import PAGES, ROOT, blocks, commands, run_console, run_python
from toplabel.cli.group import COMMANDS, toplabel as group

NETS = """
from torch import nn
from toplabel.models.zoo_import import import_torchvision

transforms = import_torchvision().transforms
val_transform = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor(),
    transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])

class MyCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(4))
        self.head = nn.Linear(128, 2)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))
"""
RUN = ["README.md", "docs/index.md", "docs/labels.md", "docs/notebooks.md", "docs/models.md"]
"""Pages whose blocks of `console` and `python` are run as they stand."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a newcomer has: photos, a folder of classes, a checkpoint with its class and names."""
    folder = tmp_path_factory.mktemp("newcomer")
    for photo in (ROOT / "examples").glob("*.jpg"):
        shutil.copy(photo, folder)
    shutil.copy(folder / "rocket.jpg", folder / "dog.jpg")
    (folder / "notes.txt").write_text("no image")
    (folder / "classes.txt").write_text("cat\ndog\n")
    (folder / "nets.py").write_text(NETS)
    rng = np.random.default_rng(0)
    for name, channel in (("red", 0), ("blue", 2)):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 90, (64, 64, 3), dtype=np.uint8)
            pixels[..., channel] += 140
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")
    names: dict = {}
    exec(NETS, names)
    torch.manual_seed(0)
    net = names["MyCNN"]()
    with torch.no_grad():
        net.head.bias[:] = torch.tensor([5.0, 0.0])  # so that it says "cat"
    torch.save(net.state_dict(), folder / "best.pth")
    return folder


@pytest.mark.slow  # half a minute: networks are compiled, a folder is trained on
@pytest.mark.parametrize("page", RUN)
def test_the_code_of_a_page_runs_as_it_stands(page: str, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    shutil.copytree(folder, place)
    names: dict[str, object] = {"__name__": "page"}
    run = [block for block in blocks(ROOT / page) if block.language in ("console", "python")]
    assert run
    for block in run:
        if block.language == "console":
            run_console(block, place)
        else:
            run_python(block, place, names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    for block in blocks(page):
        for command, _ in commands(block):
            _check_command(command, f"{page.name}, line {block.line}")


def _check_command(text: str, where: str) -> None:
    for part in re.split(r"[|;&]+", text):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:  # a quote around what was cut
            continue
        if "toplabel" not in words:
            continue
        words = words[words.index("toplabel") + 1 :]
        name = words[0] if words and words[0] in COMMANDS else "predict"
        command = group.get_command(None, name)  # type: ignore[arg-type]
        known = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
        known |= {"--help", "-h", "--version"}
        given = [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
        assert [flag for flag in given if flag not in known] == [], f"{where}: $ {text}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_a_page_is_python(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, f"{page.name}, line {block.line}", "exec")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_link_of_a_page_is_dead(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in _anchors(linked), f"{page.name}: {target}"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def test_every_page_is_in_the_sites_navigation() -> None:
    listed = (ROOT / "mkdocs.yml").read_text()
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if f": {page}\n" not in listed} == set()


def test_every_public_name_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text()
    named = set(re.findall(r"^::: toplabel\.(\w+)$", page, re.MULTILINE))
    assert named == set(toplabel.__all__) - {"__version__"}


def test_the_reference_of_the_command_line_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    for name in COMMANDS:
        assert f"\n## toplabel {name}\n" in page
