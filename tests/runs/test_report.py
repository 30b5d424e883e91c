"""The report page: what is chosen and written, and how a browser shows it."""

from __future__ import annotations

import io
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

from toplabel._internal.text import visible
from toplabel.errors import ErrorCode, RunError
from toplabel.inference.prediction import Failure
from toplabel.labels.labels import Labels
from toplabel.runs.report.report import script_json, thumbnail_source, write_report
from toplabel.runs.report.selection import BINS, Counts, ReportRow, Selection
from toplabel.runs.report.thumbnails import GROUP, Size, fitted, size_for, thumbnails

LABELS = Labels(("tench", "crane", "crane", "</script><b>bold</b>", "goldfish"))
HOSTILE = (
    "photos/<img src=x onerror=window.harm=1>.png",
    "photos/</script><script>window.harm=1</script>.png",
    "photos/שלום \u202egnp.exe",
    "photos/👩‍🔬 école.png",
    "photos/two\nlines.png",
    os.fsdecode(b"photos/caf\xe9.png"),
    "photos/' onmouseover='window.harm=1.png",
    "photos/&lt;b&gt; {{script}} <!-- .png",
)


def drawn(seed: int, *, width: int = 96, height: int = 64) -> bytes:
    """A small PNG of one colour with a lighter middle."""
    generator = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), generator.integers(0, 200, 3), np.uint8)
    pixels[height // 4 : -height // 4, width // 4 : -width // 4] += 50
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def labelled(name: str, label: int, score: float, *, source: object = None) -> ReportRow:
    top = ((label, score), ((label + 1) % 5, (1 - score) / 2))
    return ReportRow(name, source if source is not None else name, top, score < 0.4, None)


def failed(name: str, code: ErrorCode, *, source: object = None) -> ReportRow:
    return ReportRow(
        name, source if source is not None else name, (), False, Failure(code, f"no {name}")
    )


def some() -> list[ReportRow]:
    """Thirty labelled, scores 0.01 to 0.88, and four failed ones."""
    rows = [
        labelled(f"photos/{i:02}.png", i % 3, 0.01 + i * 0.03, source=drawn(i)) for i in range(30)
    ]
    rows += [failed(f"bad/{i}.jpg", "truncated", source=b"") for i in range(3)]
    return [*rows, failed("bad/gone.jpg", "not_found")]


def write(path: Path, rows: Any, **options: Any) -> Path:
    given = {"labels": LABELS, "model": "zoo/model@1", "title": "A run", "threads": 2}
    write_report(path, rows, **(given | options))
    return path


def test_what_is_doubtful_stands_on_the_page(tmp_path: Path) -> None:
    page = write(tmp_path / "a.html", some(), warnings=("names of <b>indices</b>",)).read_text()
    assert '<p class="note">names of &lt;b&gt;indices&lt;/b&gt;</p>' in page


# Counting and choosing


def test_counts_are_over_all_inputs() -> None:
    counts = Counts()
    for row in [*some(), labelled("sure", 4, 1.0)]:
        counts.add(row)
    assert (counts.inputs, counts.failed, counts.unsure) == (35, 4, 13)
    assert counts.labels == {0: 10, 1: 10, 2: 10, 4: 1}
    assert counts.errors == {"truncated": 3, "not_found": 1}
    assert sum(counts.scores) == 31
    assert len(counts.scores) == BINS
    assert counts.scores[-1] == 1  # 1.0 belongs to the last bin


def test_everything_is_shown_where_there_is_room() -> None:
    selection = Selection(50)
    for row in some():
        selection.add(row)
    chosen = selection.images()
    assert sorted(s.name for s in chosen) == sorted(s.name for s in some())
    assert [s.score for s in chosen[:30]] == sorted(s.score for s in some() if s.top)
    assert all(s.error for s in chosen[30:])


def test_failures_take_a_tenth_in_turns_by_code() -> None:
    selection = Selection(100)
    for i in range(1000):
        selection.add(labelled(f"{i}", 0, i / 1000))
        selection.add(failed(f"a{i}", "truncated"))
    for i in range(4):
        selection.add(failed(f"b{i}", "timeout"))
    codes = [s.error.code for s in selection.images() if s.error]
    assert len(selection.images()) == 100
    assert (codes.count("truncated"), codes.count("timeout")) == (6, 4)


def test_each_label_keeps_its_best_and_its_least_certain() -> None:
    generator = np.random.default_rng(0)
    everything = [
        labelled(f"{i}", int(label), float(score))
        for i, (label, score) in enumerate(
            zip(generator.integers(0, 5, 3000), generator.random(3000), strict=True)
        )
    ]
    selection = Selection(60)
    for row in everything:
        selection.add(row)
    names = {s.name for s in selection.images()}
    for label in range(5):
        of_label = sorted((s for s in everything if s.top[0][0] == label), key=lambda s: s.score)
        assert {of_label[0].name, of_label[-1].name} <= names
    least = sorted(everything, key=lambda s: s.score)[:50]
    assert {s.name for s in least} <= names
    assert len(names) == 60


def test_unknown_images_take_a_fifth_whatever_their_score() -> None:
    selection, counts = Selection(50), Counts()
    for number in range(1000):
        row = labelled(f"{number}.jpg", number % 4, 0.99 if number % 2 else 0.5)
        row = replace(row, unknown=number % 2 == 1)  # all of a high score
        selection.add(row)
        counts.add(row)
    found = selection.images()
    assert counts.unknown == 500
    assert len(found) == 50
    assert 10 <= sum(row.unknown for row in found) <= 14  # some are there for their label


def test_labels_leave_half_of_the_places() -> None:
    selection = Selection(20)
    for i in range(1000):
        selection.add(labelled(f"{i}", i % 500, i / 1000))
    scores = sorted(s.score for s in selection.images())
    assert len(scores) == 20
    assert scores[:10] == [i / 1000 for i in range(10)]


def test_choosing_keeps_no_more_than_it_may() -> None:
    class Source:
        alive = 0

        def __init__(self) -> None:
            Source.alive += 1

        def __del__(self) -> None:
            Source.alive -= 1

    selection = Selection(50)
    for i in range(20_000):
        selection.add(labelled(f"{i}", i % 5, (i * 7919 % 20_000) / 20_000, source=Source()))
        selection.add(failed(f"x{i}", "corrupt", source=Source()))
    assert Source.alive < 200


def test_only_failures_fill_the_page() -> None:
    selection = Selection(10)
    for i in range(40):
        selection.add(failed(f"{i}", "empty"))
    assert len(selection.images()) == 10


def test_no_images_are_chosen_where_none_are_wanted() -> None:
    selection = Selection(0)
    selection.add(labelled("a", 0, 0.5))
    selection.add(failed("b", "empty"))
    assert selection.images() == []


# Thumbnails


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1000, 1000), (160, 160)),
        ((2000, 3000), (131, 196)),
        ((60, 80), (60, 80)),  # never enlarged
        ((100, 10_000), (3, 253)),
        ((10_000, 1), (253, 1)),
    ],
)
def test_thumbnails_have_as_many_pixels_whatever_their_shape(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fitted(*size, edge=160) == expected


def test_fewer_images_are_larger() -> None:
    edges = [size_for(n, max_bytes=10_000_000).edge for n in (1, 500, 501, 5000, 5001, 10_000)]
    assert edges == [160, 160, 112, 88, 72, 72]
    assert size_for(10_000, max_bytes=10_000_000).max_bytes == 1000


@pytest.mark.parametrize("max_bytes", [3000, 600, 150])
def test_thumbnails_of_noise_fit_their_bytes(max_bytes: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    sources = [noise] * 5
    size = Size(edge=112, quality=72, max_bytes=max_bytes)
    (files,) = thumbnails(sources, size=size, threads=1)
    assert 0 < sum(map(len, files)) <= 5 * max_bytes
    assert all(Image.open(io.BytesIO(file)).format == "WEBP" for file in files)


def test_thumbnails_are_upright_and_in_order() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (640, 320), (200, 30, 30)).save(buffer, "JPEG", exif=exif)
    sources = [*(drawn(i) for i in range(GROUP + 3)), buffer.getvalue()]
    groups = list(thumbnails(sources, size=Size(64, 75, 2000), threads=2))
    assert [len(group) for group in groups] == [GROUP, 4]
    turned = Image.open(io.BytesIO(groups[1][3]))
    assert turned.size == (45, 91)
    for i, file in enumerate(groups[0]):
        corner = np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))[2, 2].astype(int)
        source = np.asarray(Image.open(io.BytesIO(drawn(i))))[2, 2].astype(int)
        assert np.abs(corner - source).max() < 40


def test_what_cannot_be_read_has_no_thumbnail() -> None:
    class Broken:
        name = "broken"

        def read(self, count: int = -1) -> bytes:
            raise OSError(5, "gone")

    sources: list[object] = ["/nowhere/x.jpg", b"text", Broken(), object(), np.zeros((4, 4, 6))]
    assert list(thumbnails(sources, size=Size(64, 75, 2000), threads=1)) == [[b""] * 5]


def test_what_could_not_be_read_is_not_tried_again_but_half_a_file_is_shown() -> None:
    class Counted(io.BytesIO):
        reads = 0

        def read(self, count: int | None = -1) -> bytes:
            self.reads += 1
            return super().read(count)

    slow = Counted(drawn(0))
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)).save(
        buffer, "JPEG"
    )
    half = buffer.getvalue()[: len(buffer.getvalue()) // 2]
    rows = [failed("slow", "timeout", source=slow), failed("half", "truncated", source=half)]
    ((nothing, something),) = thumbnails(
        map(thumbnail_source, rows), size=Size(64, 75, 2000), threads=1
    )
    assert nothing == b""
    assert slow.reads == 0
    assert something != b""


# Text


def test_json_cannot_end_its_script() -> None:
    hostile = {"</script>": "<!--<script>&\u2028\ud800"}
    text = script_json(hostile)
    assert not set("<>&") & set(text)
    assert text.isascii()
    assert json.loads(text) == hostile


# The file


def test_a_page_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write(tmp_path / "report.html", some())
    before = path.read_bytes()

    def breaks() -> Iterator[ReportRow]:
        yield some()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, breaks())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_page_is_the_same_each_time(tmp_path: Path) -> None:
    first = write(tmp_path / "a.html", some(), threads=1).read_bytes()
    assert write(tmp_path / "b.html", iter(some()), threads=4).read_bytes() == first


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot write the report '.*none/report.html': No such"):
        write(tmp_path / "none" / "report.html", some())


def test_colours_have_enough_contrast() -> None:
    style = (Path(write_report.__code__.co_filename).parent / "page" / "palette.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    for scheme in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): (#\w{6});", scheme))
        for text in ("ink", "quiet", "accent"):
            for ground in ("paper", "raised"):
                assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        assert _contrast(colours["on-accent"], colours["accent"]) >= 4.5
        for ground in ("paper", "raised", "well"):
            assert _contrast(colours["edge"], colours[ground]) >= 3, ground  # borders of controls


def _contrast(one: str, other: str) -> float:
    dim, bright = sorted((_luminance(one), _luminance(other)))
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    """WCAG's relative luminance of "#rrggbb"."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


# In a browser


class Opened:
    """A page in the browser, and what went wrong in it."""

    def __init__(self, browser: Any, path: Path, *, hash: str = "", **options: Any) -> None:
        given = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"}
        self.context = browser.new_context(**(given | options))
        self.context.set_default_timeout(120_000)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: self.problems.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.address = path.as_uri()
        self.page.goto(self.address + hash)

    def names(self) -> list[str]:
        """Of the cards in the document, in their order."""
        return [str(name) for name in self.page.locator(".card .name").all_text_contents()]

    def count(self) -> str:
        return str(self.page.locator("#count").text_content())

    def value(self, script: str) -> Any:
        return self.page.evaluate(script)

    def wait_until(self, condition: str) -> None:
        """Until the script is true; the page's policy forbids Playwright's own way of it."""
        end = time.monotonic() + 120
        while not self.value(condition):
            assert time.monotonic() < end, condition
            self.page.wait_for_timeout(20)

    def focused(self) -> str:
        return str(self.value("document.activeElement.getAttribute('aria-label') || ''"))


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """Opens pages; in none of them anything may be logged, thrown or requested."""
    pages: list[Opened] = []

    def open_page(path: Path, **options: Any) -> Opened:
        pages.append(Opened(browser, path, **options))
        return pages[-1]

    yield open_page
    for one in pages:
        loaded = [url.partition("#")[0] for url in one.requests if not url.startswith("data:")]
        assert one.problems == []
        assert set(loaded) == {one.address}
        one.context.close()


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("report") / "report.html", some())


def test_the_page_shows_counts_and_the_least_certain_first(opened: Any, page_path: Path) -> None:
    one = opened(page_path)
    figures = one.page.locator(".figure").all_text_contents()
    assert figures == ["34inputs", "30labelled88.2 %", "13unsure38.2 %", "4failed11.8 %"]
    assert one.page.title() == "A run"
    assert one.page.locator("h1").text_content() == "A run"
    assert one.page.locator("#model").text_content() == "zoo/model@1"
    assert one.count() == "34 images"
    assert one.names()[:3] == ["00.png", "01.png", "02.png"]
    assert one.page.locator("#labels button").all_text_contents() == [
        "tench10",
        "crane (class 1)10",
        "crane (class 2)10",
    ]
    assert one.page.locator("#errors button").all_text_contents() == ["truncated3", "not found1"]
    assert "2 from 0.00 to 0.05" in str(one.page.locator("#histogram").get_attribute("aria-label"))
    images = one.value("[...document.querySelectorAll('.card img')].slice(0, 3).map(i => i.alt)")
    assert images == ["Thumbnail of 00.png", "Thumbnail of 01.png", "Thumbnail of 02.png"]


def test_images_are_decoded_and_failures_have_a_placeholder(opened: Any, page_path: Path) -> None:
    one = opened(page_path)
    sizes = one.value(
        "Promise.all([...document.querySelectorAll('.card img')].slice(0, 5)"
        ".map(async i => { await i.decode(); return [i.naturalWidth, i.naturalHeight] }))"
    )
    assert sizes == [[96, 64]] * 5
    one.page.click("[data-state=failed]")
    assert one.page.locator(".card .missing").count() == 4


def test_filters_narrow_the_images_and_stay_in_the_address(opened: Any, page_path: Path) -> None:
    one = opened(page_path)
    one.page.click("#labels button:has-text('class 1')")
    assert one.count() == "10 of 34 images"
    one.page.select_option("#sort", "most")
    assert one.names()[0] == "28.png"
    one.page.locator("#least").fill("0.3")
    one.page.locator("#most").fill("0.5")
    assert one.names() == ["16.png", "13.png", "10.png"]
    address = "#label=1&min=0.3&max=0.5&sort=most"
    one.wait_until(f"location.hash === '{address}'")

    again = opened(page_path, hash=address)
    assert again.names() == ["16.png", "13.png", "10.png"]
    assert again.page.locator("#labels [aria-pressed=true]").text_content() == "crane (class 1)10"
    assert again.page.locator(".chip bdi").all_text_contents() == [
        "crane (class 1)",
        "score 0.30 to 0.50",
    ]
    again.page.click(".chip.all")
    assert again.count() == "34 images"


def test_states_and_codes_filter(opened: Any, page_path: Path) -> None:
    one = opened(page_path)
    one.page.click("[data-state=unsure]")
    assert one.count() == "13 of 34 images"
    one.page.click("[data-state=labelled]")
    assert one.count() == "30 of 34 images"
    one.page.click("#errors button:has-text('truncated')")
    assert one.count() == "3 of 34 images"
    assert one.page.locator("[data-state=failed]").get_attribute("aria-pressed") == "true"
    one.page.click("#errors button:has-text('truncated')")
    assert one.count() == "34 images"


def test_search_finds_labels_and_names(opened: Any, page_path: Path) -> None:
    one = opened(page_path)
    one.page.fill("#search", "TENCH")
    assert one.count() == "10 of 34 images"
    assert one.page.locator("#labels button").all_text_contents() == ["tench10"]
    one.page.fill("#search", "bad/")
    assert one.count() == "4 of 34 images"
    one.page.fill("#search", "nothing of that kind")
    assert one.count() == "0 of 34 images"
    assert one.page.locator("#empty").text_content() == "No image matches these filters."


def test_groups_have_headings(opened: Any, page_path: Path) -> None:
    one = opened(page_path, viewport={"width": 1280, "height": 4000})
    one.page.check("#group")
    headings = one.page.locator(".heading h3").all_text_contents()
    assert headings == ["tench", "crane (class 1)", "crane (class 2)", "truncated", "not found"]
    assert one.names()[:2] == ["00.png", "03.png"]


def test_a_broken_address_shows_everything(opened: Any, page_path: Path) -> None:
    one = opened(page_path, hash="#label=99&min=x&max=-3&state=odd&sort=none&code=none&%E0%A4%A")
    assert one.count() == "34 images"


def test_the_keyboard_moves_and_the_dialog_shows_one(opened: Any, page_path: Path) -> None:
    one = opened(page_path)
    press = one.page.keyboard.press
    one.page.focus(".card")
    press("End")
    assert one.focused().endswith("gone.jpg")
    press("Home")
    press("ArrowRight")
    assert one.focused() == "crane (class 1), score 0.04, unsure, 01.png"
    press("Enter")
    dialog = one.page.locator("#dialog")
    assert dialog.is_visible()
    assert one.page.locator("#dialog-position").text_content() == "2 of 34"
    assert one.page.locator("#dialog-name").text_content() == "photos/01.png"
    assert one.page.locator("#dialog-top li").all_text_contents() == [
        "crane (class 1)0.0400",
        "crane (class 2)0.4800",
    ]
    press("ArrowRight")
    assert one.page.locator("#dialog-name").text_content() == "photos/02.png"
    press("ArrowLeft")
    press("ArrowLeft")
    press("ArrowLeft")
    assert one.page.locator("#dialog-position").text_content() == "1 of 34"
    assert one.page.locator("#dialog-previous").is_disabled()
    press("Escape")
    assert not dialog.is_visible()
    one.wait_until("document.activeElement.title?.endsWith('/00.png')")
    assert one.focused().endswith("00.png")


def test_the_dialog_of_a_failure_has_its_message(opened: Any, page_path: Path) -> None:
    one = opened(page_path, hash="#code=not_found&state=failed")
    one.page.click(".card")
    assert one.page.locator("#dialog-message").text_content() == "no bad/gone.jpg"
    assert one.page.locator("#dialog-label").text_content() == "not found"
    assert one.page.locator("#dialog .missing").count() == 1


def test_the_dialog_shows_the_file_itself_and_leads_to_it(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "all photos #1").mkdir()
    (tmp_path / "pages").mkdir()
    name = "all photos #1/50%.png"
    (tmp_path / name).write_bytes(drawn(1, width=700, height=400))
    monkeypatch.chdir(tmp_path)
    one = opened(write(tmp_path / "pages" / "a.html", [labelled(name, 1, 0.5)]))
    one.page.click(".card")
    one.wait_until("document.querySelector('#dialog-image img').naturalWidth === 700")
    address = one.value("document.querySelector('#dialog-image a').href")
    assert unquote(urlsplit(address).path) == str(tmp_path / name)
    one.requests.remove(address)  # of all that it may ask for, this is asked for


def test_unsure_is_a_figure_only_where_it_was_asked_for(tmp_path: Path) -> None:
    sure = [labelled("a.png", 1, 0.9, source=drawn(1))]
    assert '"unsure"' not in _data(write(tmp_path / "a.html", sure))
    assert '"unsure":0' in _data(write(tmp_path / "b.html", sure, has_threshold=True))
    assert '"unsure":1' in _data(write(tmp_path / "c.html", [labelled("a.png", 1, 0.1)]))


def _data(page: Path) -> str:
    """The page's data: JSON, without blanks."""
    found = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page.read_text())
    assert found
    return found[1].replace(" ", "")


def test_the_name_is_copied(opened: Any, page_path: Path) -> None:
    one = opened(page_path, permissions=["clipboard-read", "clipboard-write"])
    one.page.click(".card")
    one.page.click("#dialog-copy")
    one.wait_until("document.getElementById('dialog-copied').textContent")
    assert one.page.locator("#dialog-copied").text_content() == "Copied"
    assert one.value("navigator.clipboard.readText()") == "photos/00.png"


def test_everything_is_reached_by_tab_and_its_focus_is_seen(opened: Any, page_path: Path) -> None:
    one = opened(page_path)
    seen = []
    for _ in range(30):
        one.page.keyboard.press("Tab")
        seen.append(
            one.value(
                "(() => { const e = document.activeElement, s = getComputedStyle(e);"
                " const f = e.matches('.card') ? getComputedStyle(e.firstChild) : s;"
                " return [e.id || e.className, f.outlineStyle] })()"
            )
        )
        if seen[-1][0].startswith("card"):
            break
    names = [name for name, _ in seen]
    for name in ("skip", "figure", "least", "most", "search", "sort", "group"):
        assert name in names
    assert names[-1].startswith("card")
    assert all(style != "none" for name, style in seen if name not in ("least", "most"))


def test_the_page_has_landmarks_and_a_live_count(opened: Any, page_path: Path) -> None:
    one = opened(page_path)
    role = one.page.get_by_role
    for landmark in ("banner", "main", "complementary", "contentinfo"):
        assert role(landmark).count() == 1, landmark
    assert one.page.locator("#count").get_attribute("aria-live") == "polite"
    assert one.value("document.documentElement.lang") == "en"
    unnamed = one.value(
        "[...document.querySelectorAll('button, input, select')].filter(e => !e.hidden"
        " && !(e.ariaLabel || e.textContent.trim() || e.labels?.length)).length"
    )
    assert unnamed == 0
    item = one.page.locator("[role=listitem]").first
    assert item.get_attribute("aria-setsize") == "34"
    assert item.get_attribute("aria-posinset") == "1"


def test_hostile_text_is_shown_and_nothing_runs(opened: Any, tmp_path: Path) -> None:
    rows = [labelled(name, 3, 0.5, source=drawn(i)) for i, name in enumerate(HOSTILE)]
    harm = "<img src=x onerror=window.harm=1>"
    rows.append(
        ReportRow("bad/" + harm, "", (), False, Failure("internal", f"{harm}</script>{harm}\u202e"))
    )
    path = write(tmp_path / "report.html", rows, model=harm, title=f"{harm}</title>")
    one = opened(path, hash=f"#q={harm}&label=__proto__&code={harm}")
    one.page.fill("#search", "")
    names = [visible(one.name) for one in rows]
    assert one.names() == [name.rpartition("/")[2] for name in names]
    assert one.page.locator("h1").text_content() == f"{harm}</title>"
    assert one.page.locator("#model").text_content() == harm
    assert one.page.locator("#labels .name").all_text_contents() == ["</script><b>bold</b>"]
    for position in range(len(rows)):
        one.page.locator(f"[data-position='{position}']").click()
        assert one.page.locator("#dialog-name").text_content() == names[position]
        one.page.keyboard.press("Escape")
    one.page.check("#group")
    one.page.fill("#search", harm)
    one.wait_until("/q=%3Cimg.*group=1/.test(location.hash)")
    assert one.value("window.harm") is None
    assert one.page.locator("img:not([src^='data:image/webp'])").count() == 0
    assert one.page.locator("b b, h1 *, #labels .name *").count() == 0


def test_the_policy_stops_what_is_not_ours(browser: Any, page_path: Path) -> None:
    one = Opened(browser, page_path)
    one.value(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.harm = 1';"
        " document.body.append(s); const i = new Image(); i.src = 'http://127.0.0.1:9/x.png';"
        " document.body.append(i); })()"
    )
    end = time.monotonic() + 60
    while len(one.problems) < 2 and time.monotonic() < end:
        one.page.wait_for_timeout(20)
    assert one.value("window.harm") is None
    assert len([text for text in one.problems if "Content Security Policy" in text]) == 2
    one.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (768, "light"), (1440, "dark")])
def test_no_width_scrolls_sideways(opened: Any, tmp_path: Path, width: int, scheme: str) -> None:
    long = "photos/" + "unbreakable" * 40 + ".png"
    rows = [*some(), labelled(long, 3, 0.5, source=drawn(0)), failed(long, "unsupported_format")]
    path = write(tmp_path / "report.html", rows, title="Long" * 40, model="m" * 200)
    one = opened(path, viewport={"width": width, "height": 740}, color_scheme=scheme)
    one.page.evaluate("document.getElementById('panel').open = true")
    one.page.fill("#search", "unbreakable" * 12)
    assert one.value("document.documentElement.scrollWidth") <= width
    one.page.locator(".card").first.click()
    assert one.value("document.getElementById('dialog').scrollWidth") <= width
    dark = one.value("getComputedStyle(document.body).backgroundColor") == "rgb(22, 22, 20)"
    assert dark == (scheme == "dark")


def test_a_phone_shows_two_columns_and_folds_the_charts(opened: Any, page_path: Path) -> None:
    one = opened(page_path, viewport={"width": 360, "height": 740}, has_touch=True)
    assert not one.value("document.getElementById('panel').open")
    assert one.value("document.querySelector('.row').children.length") == 2
    one.page.tap("summary")
    one.page.tap("#labels button:has-text('tench')")
    assert one.count() == "10 of 34 images"


def test_paper_gets_the_charts_and_many_images(opened: Any, page_path: Path) -> None:
    one = opened(page_path, viewport={"width": 794, "height": 400})
    before = one.page.locator(".card").count()
    pdf = one.page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert before < 34
    one.page.emulate_media(media="print")
    one.value("dispatchEvent(new Event('beforeprint'))")
    assert one.page.locator(".card").count() == 34
    assert one.page.locator("#labels").is_visible()
    assert not one.page.locator("#search").is_visible()
    one.page.emulate_media(media="screen")
    one.value("dispatchEvent(new Event('afterprint'))")
    assert one.page.locator(".card").count() == before


def test_what_is_left_out_is_said(opened: Any, tmp_path: Path) -> None:
    rows = (labelled(f"{i:05}", i % 3, i / 4000, source=b"") for i in range(4000))
    one = opened(write(tmp_path / "report.html", rows, max_images=50))
    assert one.page.locator(".figure b").first.text_content() == "4,000"
    assert one.count() == "50 images"
    note = str(one.page.locator("#chosen").text_content())
    assert note.startswith("Showing 50 of the 4,000 inputs. The numbers and charts count all")
    one.page.click("#labels button:has-text('tench')")
    assert one.count().endswith("; 1,334 inputs have this label")


def test_an_empty_run_is_a_page_too(opened: Any, tmp_path: Path) -> None:
    one = opened(write(tmp_path / "report.html", []))
    assert one.page.locator("#empty").text_content() == "There were no inputs."
    one.page.check("#group")
    assert one.count() == "0 images"


def test_only_cards_near_the_window_are_in_the_document(opened: Any, tmp_path: Path) -> None:
    rows = [labelled(f"{i:05}.png", i % 5, i / 3000, source=b"") for i in range(3000)]
    one = opened(write(tmp_path / "report.html", rows))
    assert one.page.locator(".card").count() < 250
    one.page.focus(".card")
    one.page.keyboard.press("End")
    assert one.focused().endswith("02999.png")
    one.value("scrollTo(0, 0)")
    first = "[...document.querySelectorAll('.card')].some(card => card.title === '00000.png')"
    one.wait_until(first)
    assert one.focused().endswith("02999.png")  # what is focused stays, wherever it is
    assert "00000.png" in one.names()
    assert one.page.locator(".card").count() < 250
    one.value("document.activeElement.blur()")
    one.value(f"scrollTo(0, {20_000})")
    one.wait_until(  # what Tab reaches is in sight
        "(() => { const r = document.querySelector('.card[tabindex=\"0\"]')"
        "?.getBoundingClientRect(); return r && r.bottom > 0 && r.top < innerHeight })()"
    )


@pytest.mark.slow
@pytest.mark.shared_data
def test_ten_thousand_photos_fit_and_appear_at_once(
    opened: Any, tmp_path: Path, shared_data: Path
) -> None:
    photos = sorted((shared_data / "imagenet").glob("*.JPEG"))
    generator = np.random.default_rng(0)
    rows = (
        labelled(f"photos/{i // 500:03}/{i:06}_{photos[i % 200].name}", i % 5, score, source=source)
        for i, (score, source) in enumerate(
            zip(generator.random(10_000).tolist(), photos * 50, strict=True)
        )
    )
    path = write(tmp_path / "report.html", rows)
    assert 10_000_000 < path.stat().st_size < 15_000_000
    one = opened(path, viewport={"width": 1440, "height": 900})
    assert 50 < one.page.locator(".card").count() < 400  # few, so they are there at once
    one.page.select_option("#sort", "name")
    assert one.names()[0].startswith("000000_n0")
    one.page.keyboard.press("End")
    assert one.page.locator(".card img").count() > 50
    assert one.page.locator(".card").count() < 400
