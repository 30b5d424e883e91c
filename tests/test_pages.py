"""Every page that toplabel writes or serves, as readers get it: phone and desk, light and dark."""

from __future__ import annotations

import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import toplabel
from page_audit import DESKTOP, PHONE, SCHEMES, flaws, keyboard_flaws, print_flaws
from run_material import draw_colours, save_model
from serving import ROOT, serving
from toplabel.errors import ErrorCode
from toplabel.inference.prediction import Failure
from toplabel.labels.labels import Labels
from toplabel.runs.report.report import write_report
from toplabel.runs.report.selection import ReportRow
from training_material import draw_folder

pytestmark = pytest.mark.slow

SITE = ROOT / "build" / "site"
SITE_PAGES = ("index", "training", "evaluating", "silent-errors", "reference/python")
SEEN = [(width, scheme) for width in (PHONE, DESKTOP) for scheme in SCHEMES]


@contextmanager
def visited(browser: Any, address: str, width: int, scheme: str) -> Iterator[Any]:
    """The page in a tab of its own, in which nothing may be logged, thrown or asked of others."""
    context = browser.new_context(
        viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(120_000)
    page, problems, requests = context.new_page(), [], []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address, wait_until="networkidle")
    yield page
    context.close()
    ours = (address.partition(":")[0] + "://", "data:", "blob:")
    refused = "Failed to load resource: the server responded with a status of 415"  # what was tried
    assert [one for one in problems if not one.startswith(refused)] == []
    assert [url for url in requests if not url.startswith(ours)] == []


def hold_to_all(browser: Any, address: str, *, before: Callable[[Any], None] | None = None) -> None:
    """Hold a page to what it owes, in all widths and schemes, with the keyboard and on paper.

    Args:
        browser: A real one.
        address: Of the page.
        before: What is done on the page first.
    """
    found: list[str] = []
    for width, scheme in SEEN:
        with visited(browser, address, width, scheme) as page:
            if before is not None:
                before(page)
            here = flaws(page)
            if scheme == "light":
                here += keyboard_flaws(page)
            if (width, scheme) == (DESKTOP, "dark"):
                here += print_flaws(page)
            found += [f"{width} {scheme}: {one}" for one in here]
    assert found == []


def drawn(number: int) -> np.ndarray:
    """A small picture of its own."""
    chance = np.random.default_rng(number)
    return chance.integers(0, 256, (60 + number % 7, 90, 3), np.uint8)


def report_rows(folder: Path) -> list[ReportRow]:
    """Sixty files with labels, some unsure or unknown, and some that failed."""
    rows = []
    for number in range(60):
        path = folder / f"{number:02} a photo with quite a long name.png"
        Image.fromarray(drawn(number)).save(path)
        best = 0.2 + 0.013 * number
        top = tuple(((number + i) % 5, best / (i + 1)) for i in range(5))
        name = str(path)
        rows.append(ReportRow(name, name, top, best < 0.4, None, unknown=number % 9 == 0))
    codes: tuple[ErrorCode, ...] = ("truncated", "not_found", "not_an_image")
    for code in codes:
        rows.append(ReportRow(f"x/{code}", b"", (), False, Failure(code, f"it is {code}")))
    return rows


@pytest.fixture(scope="module")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    labels = Labels(("tench", "crane", "a class whose name is long enough to wrap", "crane", "cod"))
    page = folder / "run.html"
    write_report(
        page,
        report_rows(folder),
        labels=labels,
        model="zoo/model@1",
        title="A run",
        threads=2,
        warnings=("the class names are sorted as text",),
        has_threshold=True,
    )
    return page


def test_a_runs_report_can_be_read_and_used_by_everybody(browser, run_page):
    hold_to_all(browser, run_page.as_uri())


def test_a_runs_large_view_can_be_read_and_used_by_everybody(browser, run_page):
    def open_first(page):
        page.locator(".card").first.focus()
        page.keyboard.press("Enter")
        page.locator("#dialog[open] img").wait_for()
        assert page.locator("#dialog-top li").count() == 5

    hold_to_all(browser, run_page.as_uri(), before=open_first)
    with visited(browser, run_page.as_uri(), PHONE, "dark") as page:
        open_first(page)
        page.keyboard.press("Escape")
        assert page.locator("#dialog[open]").count() == 0
        assert page.evaluate("document.activeElement.className").startswith("card")


def test_an_evaluations_report_can_be_read_and_used_by_everybody(browser, tmp_path):
    from toplabel.analysis.evaluate.metrics import paired_test
    from toplabel.analysis.evaluate.report import write_evaluation_report

    models = []
    for scale in (20, 2):
        (tmp_path / str(scale)).mkdir()
        models.append(toplabel.load(**save_model(tmp_path / str(scale), scale=scale)))
    draw_colours(tmp_path / "all", 36)
    for number, path in enumerate(sorted((tmp_path / "all").iterdir())):
        label = models[0](path).label if number % 4 else ("red", "green", "blue")[(number + 1) % 3]
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / "data" / label / path.name)
    found = [toplabel.evaluate(one, tmp_path / "data", corruptions=True) for one in models]
    page = tmp_path / "evaluation.html"
    test = paired_test(found[0].outputs.right, found[1].outputs.right)
    write_evaluation_report(page, found, [test])
    hold_to_all(browser, page.as_uri())
    with visited(browser, page.as_uri(), PHONE, "light") as tab:
        assert tab.locator(".legend li").count() == 2
        boxes = [tab.locator(".mistakes li").nth(place).bounding_box() for place in (0, 1)]
        assert boxes[0]["y"] == boxes[1]["y"]  # several in a row
        first = tab.locator(".mistakes a").first
        path = first.evaluate("(link) => decodeURIComponent(new URL(link.href).pathname)")
        assert Path(path).is_file()


def test_a_trainings_report_can_be_read_and_used_by_everybody(browser, tmp_path):
    from toplabel.training.report.report import write_training_report

    draw_folder(tmp_path / "data", {"round": 24, "striped": 24, "grid": 24})
    (tmp_path / "data" / "grid" / "broken.png").write_bytes(b"?")
    for number in range(3):  # under the wrong class, and twice
        wrong = tmp_path / "data" / "round" / f"{number:03}.png"
        (tmp_path / "data" / "striped" / f"copy{number}.png").write_bytes(wrong.read_bytes())
    page = tmp_path / "train.html"
    write_training_report(page, toplabel.train(tmp_path / "data"))
    hold_to_all(browser, page.as_uri())


def test_the_servers_pages_can_be_read_and_used_by_everybody(browser):
    def label(page):
        page.locator("#facts", has_text="classes").wait_for()
        page.set_input_files("#choose", [ROOT / "examples" / "cat.jpg", ROOT / "README.md"])
        page.locator(".card .label").first.wait_for()
        page.locator(".card.failed").wait_for()

    def unfold(page):
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")

    with serving() as server:
        hold_to_all(browser, server.url)
        hold_to_all(browser, server.url, before=label)
        hold_to_all(browser, f"{server.url}/docs", before=unfold)


@pytest.fixture(scope="module")
def site() -> Path:
    pytest.importorskip("zensical", reason="zensical is not installed")
    command = [sys.executable, str(ROOT / "scripts" / "build_site.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return SITE


@pytest.fixture(scope="module")
def site_address(site: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", SITE_PAGES)
def test_the_sites_pages_can_be_read_and_used_by_everybody(browser, site_address, name):
    hold_to_all(browser, f"{site_address}/{name}.html")


def test_the_site_can_be_read_and_searched_in_its_folder(browser, site):
    for name in ("index", "reference/python"):
        with visited(browser, (site / f"{name}.html").as_uri(), DESKTOP, "light") as page:
            page.locator("button", has_text="Search").first.click()
            page.locator("input[placeholder=Search]").fill("temperature")
            page.get_by_text(re.compile(r"^\d+ results$")).wait_for()
