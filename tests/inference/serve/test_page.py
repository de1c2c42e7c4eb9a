"""The web page, in a real browser, as a person uses it."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from pycocotools import mask as native
from pycocotools.coco import COCO

from sb3_alignsam.evaluation.run_lengths import decode_mask, encode_mask
from sb3_alignsam.inference.annotator import Annotator
from sb3_alignsam.inference.click_files import read_clicks
from tests.inference.serve.conftest import as_png, served
from tests.inference.serve.test_app import post

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((found for name in BROWSERS if (found := shutil.which(name))), "")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine (Debian: apt-get install chromium)")
FRAME = "#frame"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that must not fail, nor ask any other machine for anything."""
    context = browser.new_context(reduced_motion="reduce", viewport={"width": 1280, "height": 860})
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(error))
    page.on("request", lambda request: problems.append(request.url) if _is_foreign(request.url) else None)
    yield page
    context.close()
    assert problems == []


def _is_foreign(url):
    return not url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:", "data:"))


@pytest.fixture
def opened(page, address, scene_png):
    """The page with a picture."""
    return _open(page, address, scene_png)


def _open(page, address, content):
    page.goto(address)
    expect(page.locator("#known option").first).to_be_attached()
    page.set_input_files("#file", {"name": "my scene.png", "mimeType": "image/png", "buffer": content})
    expect(page.locator(FRAME)).to_be_visible()
    return page


def _click_on(page, x, y, **how):
    """Click on a pixel of the picture."""
    box = page.locator(FRAME).bounding_box()
    width, height = page.evaluate("() => [image.naturalWidth, image.naturalHeight]")
    place = {"x": (x + 0.5) * box["width"] / width, "y": (y + 0.5) * box["height"] / height}
    page.click(FRAME, position=place, **how)


def _count(page, number):
    expect(page.locator("#clicks li")).to_have_count(number)
    expect(page.locator("body")).not_to_have_class("busy")
    expect(page.locator(".marker")).to_have_count(number)


def _shown(page):
    """The mask as the page shows it."""
    drawn = page.evaluate(
        """() => {
            const {width, height} = fill, {data} = fill.getContext("2d").getImageData(0, 0, width, height);
            return [height, width, [...data.filter((_, at) => at % 4 === 3)]];
        }"""
    )
    return np.reshape(drawn[2], drawn[:2]) > 0


def test_a_person_lets_the_agent_click_and_corrects_it(opened, address, scene_png):
    page = opened
    page.select_option("#known", "star")
    page.click("#segment")
    _count(page, 5)
    answer = post(address, scene_png, category="star").json()
    assert np.array_equal(_shown(page), decode_mask(answer["segmentation"]))
    signs = ["+" if click["positive"] else "−" for click in answer["clicks"]]
    assert page.locator(".marker").all_inner_texts() == signs
    assert page.locator("#clicks .sign").all_inner_texts() == signs

    _click_on(page, 40, 30, button="right")
    _count(page, 6)
    assert page.locator("#clicks li").last.inner_text().split() == ["−", "you", "40,", "30", _iou(page), "×"]
    given = [*answer["clicks"], {"x": 40, "y": 30, "positive": False}]
    corrected = post(address, scene_png, category="star", clicks=json.dumps({"clicks": given}), budget=6).json()
    assert np.array_equal(_shown(page), decode_mask(corrected["clicks"][-1]["segmentation"]))

    page.fill("#more", "2")
    page.click("#further")
    _count(page, 8)
    assert page.locator("#clicks .who").all_inner_texts() == ["agent"] * 5 + ["you"] + ["agent"] * 2

    page.click("#clicks li:nth-child(2) .show")
    assert np.array_equal(_shown(page), decode_mask(answer["clicks"][1]["segmentation"]))
    page.click("#clicks li:nth-child(6) .remove")
    _count(page, 7)
    page.locator(".marker").last.click()
    _count(page, 6)
    page.click("#clear")
    _count(page, 0)
    assert not _shown(page).any()


def _iou(page):
    return page.locator("#clicks .iou").last.inner_text()


def test_a_person_can_do_without_the_agent_and_without_a_mouse(opened):
    page = opened
    _click_on(page, 100, 60)
    _count(page, 1)
    _click_on(page, 200, 150, modifiers=["Alt"])
    _count(page, 2)
    page.check("input[value=negative]")
    _click_on(page, 20, 150)
    _count(page, 3)
    page.focus(FRAME)
    presses = (["ArrowLeft", "Shift+ArrowUp", "+"], ["ArrowDown", "-"], ["ArrowRight", "Enter"])
    for number, keys in enumerate(presses, 4):
        for key in keys:
            page.keyboard.press(key)
        _count(page, number)
        page.focus(FRAME)
    assert "".join(page.locator("#clicks .sign").all_inner_texts()) == "+−−+−−"
    assert page.locator("#clicks .place").all_inner_texts() == [
        "100, 60", "200, 150", "20, 150", "125, 84", "125, 87", "128, 87",
    ]  # fmt: skip
    page.keyboard.press("Backspace")
    _count(page, 5)
    for selector in ("#file", "#known", "#segment", "#clicks .show", "#clicks .remove", "#opacity", "#png"):
        page.focus(selector)
        assert page.evaluate("selector => document.activeElement.matches(selector)", selector)


def test_what_is_taken_away_is_what_is_shown(opened, tmp_path):
    page = opened
    page.select_option("#known", "ring")
    page.click("#segment")
    _count(page, 5)
    page.click("#clicks li:nth-child(3) .show")
    shown, files = _shown(page), {}
    for button in ("#png", "#coco", "#json"):
        with page.expect_download() as download:
            page.click(button)
        files[button] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[button])
    assert [path.name for path in files.values()] == [
        f"my scene_ring_{kind}" for kind in ("mask.png", "coco.json", "clicks.json")
    ]
    assert np.array_equal(np.asarray(Image.open(files["#png"]).convert("L")), np.where(shown, 255, 0))
    coco = COCO(files["#coco"])
    (annotation,) = coco.loadAnns(coco.getAnnIds())
    assert np.array_equal(coco.annToMask(annotation), shown)
    assert annotation["area"] == np.count_nonzero(shown)
    assert annotation["bbox"] == native.toBbox(native.encode(np.asfortranarray(shown, np.uint8))).tolist()
    assert coco.getCatIds(catNms=["ring"]) == [1]
    assert len(read_clicks(files["#json"], shown.shape)) == 3


def test_the_opacity_of_the_mask_can_be_changed(opened):
    opened.fill("#opacity", "20")
    assert opened.evaluate("getComputedStyle(fill).opacity") == "0.2"
    assert opened.inner_text("#percent") == "20 %"


def test_clicks_for_one_category_are_not_taken_for_another(opened):
    page = opened
    page.select_option("#known", "star")
    page.click("#segment")
    _count(page, 5)
    page.select_option("#known", "ring")
    expect(page.locator("#further")).to_be_disabled()
    _click_on(page, 50, 50)
    _count(page, 1)
    expect(page.locator("#further")).to_be_enabled()


def test_an_agent_that_reads_names_is_asked_in_free_text(page, explicit_run, scene_png):
    with served(Annotator(explicit_run, env_kwargs={"cache": False})) as address:
        page.goto(address)
        expect(page.locator("#any")).to_have_value("circle")
        page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": scene_png})
        page.fill("#any", "traffic light")
        page.press("#any", "Enter")
        _count(page, 5)
        page.fill("#any", "light " * 33)
        page.click("#segment")
        expect(page.locator("#problem")).to_contain_text("long")
        expect(page.locator("#again")).to_be_hidden()


def test_a_busy_server_is_asked_again(page, run_folder, scene_png):
    held, go_on = threading.Event(), threading.Event()

    class Held(Annotator):
        def segment_batch(self, *args):
            held.set()
            go_on.wait(60)
            return super().segment_batch(*args)

    with served(Held(run_folder, env_kwargs={"cache": False}), waiting=1) as address, ThreadPoolExecutor() as pool:
        other = pool.submit(post, address, scene_png, category="star")
        held.wait(60)
        _open(page, address, scene_png)
        page.click("#segment")
        expect(page.locator("#problem")).to_contain_text("The server is busy: try again in")
        go_on.set()
        assert other.result().status_code == 200
        page.click("#again")
        _count(page, 5)
        expect(page.locator("#problem")).to_be_hidden()


def test_what_cannot_be_done_is_said(page, annotator, scene_png):
    with served(annotator, upload_bytes=200_000, pixels=60_000) as address:
        _open(page, address, scene_png)
        for content, words in (
            (b"no picture", "is no picture that can be shown"),
            (bytes(300_000), "The file has 0.3 MB; at most 0.2 MB"),
            (as_png(np.zeros((400, 400, 3), np.uint8)), "The picture has 0.2 megapixels; at most 0.1"),
        ):
            page.set_input_files("#file", {"name": "b.png", "mimeType": "image/png", "buffer": content})
            expect(page.locator("#problem")).to_contain_text(words)
            assert "my scene.png" in page.inner_text("#name")
        page.click("#segment")
        _count(page, 5)
        expect(page.locator("#problem")).to_be_hidden()
        page.route("**/segment", lambda route: route.abort())
        page.click("#segment")
        expect(page.locator("#problem")).to_contain_text("does not answer")
        _count(page, 5)


def test_a_picture_can_be_dropped(page, address, scene_png):
    page.goto(address)
    page.evaluate(
        """async (bytes) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
            document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
        }""",
        list(scene_png),
    )
    expect(page.locator("#name")).to_contain_text("dropped.png, 256×200")


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_off(width, opened, address):
    page = opened
    page.click("#segment")
    _count(page, 5)
    page.set_viewport_size({"width": width, "height": 800})
    for path in (None, "/docs"):
        if path is not None:
            page.goto(address + path)
            expect(page.locator("section h2").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_api_is_described(page, address):
    page.goto(f"{address}/docs")
    expect(page.locator("h2").first).to_be_visible()
    titles = {title.replace("\n", "") for title in page.locator("h2").all_inner_texts()}
    assert {"POST/segment", "POST/annotate", "GET/health", "GET/categories"} <= titles


def test_the_pages_decoder_agrees_with_cocos(page, address):
    page.goto(address)
    rng = np.random.default_rng(0)
    for number in range(25):
        height, width = rng.integers(1, 40, 2)
        mask = rng.random((height, width)) < rng.choice([0.0, 0.02, 0.5, 0.98, 1.0])
        if number % 5 == 0:  # long runs, of more than one character
            mask = np.repeat(np.repeat(mask, 40, axis=0), 3, axis=1)
        decoded = page.evaluate(
            "async (runs) => [...(await import('/masks.js')).decode(runs).inside]", encode_mask(mask)
        )
        assert np.array_equal(np.reshape(decoded, mask.shape), mask)
