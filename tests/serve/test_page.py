"""The server's page, in a real browser."""

from __future__ import annotations

import base64
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving import CAT, ROOT, Server, held_port, serving

CAT_FILE = ROOT / "examples" / "cat.jpg"
COFFEE_FILE = ROOT / "examples" / "coffee.jpg"
ROCKET_FILE = ROOT / "examples" / "rocket.jpg"
TOKEN = "a-token-of-more-than-16"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def sent(file: Path) -> dict[str, Any]:
    """A file as the browser is handed it."""
    return {"name": file.name, "mimeType": "image/jpeg", "buffer": file.read_bytes()}


class Visit:
    """The page in a tab of its own, what it asked for, and what went wrong in it."""

    def __init__(self, browser: Any, server: Server, **options: Any) -> None:
        given = {"viewport": {"width": 1100, "height": 800}, "reduced_motion": "reduce"}
        self.context = browser.new_context(**(given | options))
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.requests: list[Any] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request))
        self.page.set_default_timeout(120_000)
        self.page.goto(server.url)

    def choose(self, *files: Any) -> None:
        self.page.set_input_files("#choose", [f if isinstance(f, dict) else sent(f) for f in files])

    def card(self, number: int) -> Any:
        return self.page.locator(".card").nth(number)

    def wait_for_label(self, number: int = 0) -> str:
        self.card(number).locator(".label").wait_for()
        return str(self.card(number).locator(".label").text_content())

    def wait_for_models(self) -> None:
        self.page.locator("#facts", has_text="classes").wait_for()


def size_of(image: Any) -> Any:
    """An image's own width and height, which are zero until the browser has it."""
    return image.evaluate(
        "async (image) => { await image.decode();"
        " return [image.naturalWidth, image.naturalHeight]; }"
    )


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Visit]:
    opened = Visit(browser, server)
    yield opened
    opened.context.close()
    assert opened.problems == []
    assert all(r.url.startswith((server.url, "blob:", "data:")) for r in opened.requests)


@pytest.fixture
def troubled(browser: Any, server: Server) -> Iterator[Visit]:
    """A visit in which the browser tells of failed requests, as it should."""
    opened = Visit(browser, server)
    yield opened
    opened.context.close()
    assert all(p.startswith("Failed to load resource") for p in opened.problems)


def test_a_dropped_image_gets_its_label_and_five_bars(visit):
    content = base64.b64encode(CAT).decode()
    # handed over as a function: the page's policy forbids the evaluation of text in it
    transfer = visit.page.evaluate_handle(
        """(content) => {
            const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "dropped.jpg", {type: "image/jpeg"}));
            return transfer;
        }""",
        content,
    )
    visit.page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    visit.page.locator("#veil").wait_for()
    visit.page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    assert visit.wait_for_label() == "tiger cat"
    assert visit.page.locator("#veil").is_hidden()
    rows = visit.card(0).locator(".class")
    assert rows.count() == 5
    assert re.sub(r"\s+", " ", rows.nth(0).inner_text()) == "tiger cat 37.1%"
    assert rows.nth(0).locator(".fill").evaluate("(fill) => fill.style.width").startswith("37.")
    assert visit.page.locator("#said").text_content() == "dropped.jpg: tiger cat, 37.1%"
    assert size_of(visit.card(0).locator(".photo"))[0] == 451


def test_a_pasted_image_is_labelled(visit):
    content = base64.b64encode(CAT).decode()
    visit.page.evaluate(
        """(content) => {
            const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([bytes], "image.png", {type: "image/png"}));
            dispatchEvent(new ClipboardEvent("paste", {clipboardData}));
        }""",
        content,
    )
    assert visit.wait_for_label() == "tiger cat"


def test_several_keep_their_order_and_can_be_removed(visit):
    visit.choose(CAT_FILE, COFFEE_FILE, ROCKET_FILE)
    assert [visit.wait_for_label(i) for i in range(3)] == ["tiger cat", "espresso", "missile"]
    assert visit.page.locator("#count").text_content() == "3 images"
    visit.card(1).get_by_role("button", name="Remove coffee.jpg").click()
    names = visit.page.locator(".card figcaption").all_text_contents()
    assert names == ["cat.jpg", "rocket.jpg"]
    visit.page.get_by_role("button", name="Clear all").click()
    assert visit.page.locator(".card").count() == 0
    assert visit.page.locator("#results").is_hidden()


def test_the_heat_map_of_any_of_the_five_is_shown_and_hidden(visit):
    visit.choose(CAT_FILE)
    visit.wait_for_label()
    card = visit.card(0)
    lynx = card.get_by_role("button", name="lynx")
    lynx.click()
    card.locator(".heat").wait_for()
    assert lynx.get_attribute("aria-pressed") == "true"
    assert size_of(card.locator(".heat")) == [451, 300]
    assert card.locator(".photo").is_hidden()
    why = card.locator(".why").text_content()
    assert re.match(
        r"Evidence for lynx\. By covering parts of it; without the hottest tenth its score falls"
        r" by -?\d+ points, without another tenth by -?\d+ points\.$",
        why,
    )
    asked = [r for r in visit.requests if "/v1/explain" in r.url]
    assert "label=287" in asked[0].url
    lynx.click()
    assert card.locator(".heat").is_hidden()
    assert card.locator(".photo").is_visible()
    lynx.click()  # a second look asks nobody
    card.locator(".heat").wait_for()
    assert len([r for r in visit.requests if "/v1/explain" in r.url]) == 1


def test_broken_files_are_told_in_words_and_the_others_are_labelled(troubled):
    hostile = "<img src=x onerror=alert(1)>.jpg"
    troubled.choose(
        {"name": hostile, "mimeType": "image/jpeg", "buffer": CAT[:900]},
        {"name": "web.jpg", "mimeType": "image/jpeg", "buffer": b"<html>"},
        {"name": "none.jpg", "mimeType": "image/jpeg", "buffer": b""},
        CAT_FILE,
    )
    assert troubled.wait_for_label(3) == "tiger cat"
    for number, (words, code) in enumerate(
        [
            ("The image is cut short: a part of the file is missing.", "truncated"),
            ("This is not an image.", "not_an_image"),
            ("The file is empty.", "empty"),
        ]
    ):
        error = troubled.card(number).locator(".error")
        error.wait_for()
        assert error.locator(".words").text_content() == words
        assert error.locator(".code").text_content() == code
        assert error.locator(".retry").is_hidden()
    assert troubled.card(0).locator("figcaption").text_content() == hostile
    assert troubled.page.locator("#count").text_content() == "4 images, 3 failed"


def test_json_and_curl_are_copied(browser, server):
    visit = Visit(browser, server)
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.choose(CAT_FILE)
    visit.wait_for_label()
    read = "() => navigator.clipboard.readText()"
    visit.page.get_by_role("button", name="Copy JSON").click()
    visit.page.get_by_role("button", name="Copied").wait_for()
    record = json.loads(visit.page.evaluate(read))
    assert (record["source"], record["label"], len(record["top"])) == ("cat.jpg", "tiger cat", 5)
    visit.page.get_by_role("button", name="Copy curl").click()
    visit.page.get_by_role("button", name="Copied").nth(1).wait_for()
    said = visit.page.evaluate(read)
    assert said.startswith(f"curl --data-binary @'cat.jpg' '{server.url}/v1/classify?model=")
    visit.context.close()


def test_the_server_gone_is_told_and_a_retry_helps_when_it_is_back(browser):
    with held_port() as port:
        with serving("--port", str(port)) as running:
            visit = Visit(browser, running)
            visit.wait_for_models()
            running.stop(signal.SIGKILL)
            visit.choose(CAT_FILE)
            error = visit.card(0).locator(".error")
            error.wait_for()
            assert "The server does not answer." in error.locator(".words").text_content()
            retry = visit.card(0).get_by_role("button", name="Try again")
            assert retry.is_visible()
        with serving("--port", str(port)):
            retry.click()
            assert visit.wait_for_label() == "tiger cat"
        visit.context.close()


def test_another_model_labels_the_images_again(browser):
    bundle = "embedded/efficientnet_lite0"
    with serving("-m", f"first={bundle}", "-m", f"second={bundle}") as running:
        visit = Visit(browser, running)
        visit.choose(CAT_FILE)
        visit.wait_for_label()
        visit.page.locator("#model").select_option("second")
        visit.card(0).locator(".label", has_text="tiger cat").wait_for()
        asked = [r.url for r in visit.requests if "/v1/classify" in r.url]
        assert [re.search("model=([a-z]+)", url)[1] for url in asked] == ["first", "second"]
        visit.context.close()


def test_a_token_is_asked_for_and_kept_out_of_addresses(browser, tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN)
    with serving("--token-file", str(file)) as running:
        visit = Visit(browser, running)
        visit.page.get_by_role("heading", name="This server asks for a token").wait_for()
        visit.page.locator("#token").fill("a-wrong-token-of-16")
        visit.page.get_by_role("button", name="Go on").click()
        visit.page.get_by_role("heading", name="That is not the token").wait_for()
        visit.page.locator("#token").fill(TOKEN)
        visit.page.keyboard.press("Enter")
        visit.wait_for_models()
        visit.choose(CAT_FILE)
        assert visit.wait_for_label() == "tiger cat"
        assert not [r.url for r in visit.requests if TOKEN in r.url]
        visit.context.close()


def test_the_keyboard_alone_is_enough(visit):
    visit.wait_for_models()
    page = visit.page
    page.keyboard.press("Tab")
    assert page.locator(".skip").evaluate("(link) => link === document.activeElement")
    with page.expect_file_chooser() as chooser:
        page.locator("#choose").focus()
        page.keyboard.press("Enter")
    chooser.value.set_files(str(CAT_FILE))
    visit.wait_for_label()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.locator(".class").nth(1).evaluate("(row) => row === document.activeElement"):
            break
    page.keyboard.press("Enter")
    visit.card(0).locator(".heat").wait_for()


@pytest.mark.parametrize("width", [320, 768])
def test_a_small_screen_needs_no_sideways_scrolling(browser, server, width):
    visit = Visit(browser, server, viewport={"width": width, "height": 640})
    long = "a-very-long-name-" * 12 + ".jpg"
    visit.choose({"name": long, "mimeType": "image/jpeg", "buffer": CAT}, COFFEE_FILE)
    visit.wait_for_label(1)
    visit.wait_for_label(0)
    assert visit.page.evaluate("() => document.documentElement.scrollWidth") == width
    visit.context.close()


CONTRAST = """() => {
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
        .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const [r, g, b, a = 1] = parse(getComputedStyle(at).backgroundColor);
            if (a === 1) return [r, g, b];
        }
        return parse(getComputedStyle(document.documentElement).backgroundColor);
    };
    const low = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!own || !element.checkVisibility()) continue;
        const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) low.push([element.className, ratio]);
    }
    return low;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_is_well_readable(browser, server, scheme):
    visit = Visit(browser, server, color_scheme=scheme)
    visit.choose(CAT_FILE, {"name": "b.jpg", "mimeType": "image/jpeg", "buffer": b"?"})
    visit.wait_for_label()
    visit.card(1).locator(".error").wait_for()
    visit.card(0).locator(".class").nth(0).click()
    visit.card(0).locator(".heat").wait_for()
    assert visit.page.evaluate(CONTRAST) == []
    background = visit.page.locator("body").evaluate("(b) => getComputedStyle(b).backgroundColor")
    assert background == {"light": "rgb(250, 249, 246)", "dark": "rgb(22, 22, 20)"}[scheme]
    visit.context.close()


def test_the_policy_lets_the_page_talk_to_its_server_alone(server):
    for path, kind in (
        ("/", "text/html"),
        ("/page/page.css", "text/css"),
        ("/page/api.js", "text/javascript"),
    ):
        reply = server.ask("GET", path)
        assert reply.status == 200
        assert reply.headers["content-type"].startswith(kind)
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(rb"https?://", reply.body)
    assert server.ask("GET", "/page/index.html").status == 404
    assert server.ask("GET", "/page/../page.py").status == 404


@pytest.mark.slow
def test_two_hundred_images_at_once_are_all_labelled(visit):
    named = [{"name": f"{i:03}.jpg", "mimeType": "image/jpeg", "buffer": CAT} for i in range(200)]
    visit.choose(*named)
    visit.page.locator("#count:text-is('200 images')").wait_for(timeout=300_000)
    assert visit.page.locator(".label", has_text="tiger cat").count() == 200
