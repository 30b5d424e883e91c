"""Documents say what is so: their code runs, their commands and options exist, their links lead."""

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest

import newcomer
import toplabel
from documents import NOT_RUN, PAGES, ROOT, Block, Newcomer, blocks, commands
from toplabel.cli.group import COMMANDS, toplabel as group

MADE = ("command-line.md",)
"""Pages made from the code, and held equal to it; nothing of them is run."""


def _is_run(block: Block) -> bool:
    return block.not_run is None and (block.language in ("console", "python") or "." in block.title)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a newcomer has."""
    return newcomer.make(tmp_path_factory.mktemp("newcomer"))


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all pages, so that each network is compiled once."""
    return tmp_path_factory.mktemp("shared-cache")


@pytest.mark.slow  # a minute or two: networks are compiled, folders trained on, servers started
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(_is_run(block) for block in blocks(page))],
    ids=lambda page: page.stem,
)
def test_the_code_of_a_page_runs_as_it_stands(
    page: Path, folder: Path, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPLABEL_CACHE", str(shared_cache))
    place = tmp_path / "place"
    shutil.copytree(folder, place)
    with Newcomer(place) as somebody:
        for block in blocks(page):
            if _is_run(block):
                somebody.do(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks(page) if page.name not in MADE else ():
        where = f"{page.name}, line {block.line}"
        if block.not_run is not None:
            assert block.not_run in NOT_RUN, where
            assert re.search(NOT_RUN[block.not_run], block.text), f"{where}: {block.not_run}?"
        elif block.title.endswith("/"):  # a folder's listing
            listed = re.findall(r"^  (\w+)[/.]", block.text, re.MULTILINE)
            there = {path.stem for path in (ROOT / block.title).glob("[a-z]*")}
            assert {*listed} - {"_internal"} == there - {"data", "py"}, where
        else:
            assert _is_run(block), where
        if block.language == "console":
            assert block.text.startswith("$ "), where


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_code_of_a_page_escapes_the_tests(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(blocks(page))  # no fence that is none of `blocks`
    assert re.findall(r"^\n(?: {4}|\t)(?! |[-*] ).*", text, re.MULTILINE) == []  # none by indenting


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


def test_the_recipe_for_conda_asks_for_what_the_wheel_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    recipe = (ROOT / "packaging" / "meta.yaml").read_text()
    run = re.search(r"^  run: \[(.*)\]$", recipe, re.MULTILINE)[1].replace(" ", "")
    plain = [f"python{project['requires-python']}", *project["dependencies"]]
    assert {re.sub(r"(\.0)+$", "", one.lower()) for one in plain} == {*run.split(",")}
