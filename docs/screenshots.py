"""Takes docs/mlflow.png, tensorboard.png, serve.png and serve_narrow.png: trains two short runs, opens the pages in a
headless Chromium.

Needs chromium (Debian: apt-get install -y chromium), and the commands sb3-alignsam, mlflow and tensorboard on PATH.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from sb3_alignsam.datasets import ShapesDataset

DOCS = Path(__file__).resolve().parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MOST_BYTES = 300_000
SCENE = 5
"""Of the val split of Shapes, that is segmented on the page of `serve`."""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=Path, help="Log folder with tracked runs; else two are trained.")
    parser.add_argument("--run", type=Path, help="Run folder or zip that the web page serves; else one of those.")
    parser.add_argument("--wait", type=int, default=60, help="Seconds that a page has to draw itself.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        logs = (options.logs or _trained(Path(temporary) / "logs")).resolve()
        experiment = _experiment(logs / "mlflow.db")
        command = ["mlflow", "ui", "--backend-store-uri", f"sqlite:///{logs}/mlflow.db", "--workers", "1"]
        with _served(command, "/health") as address:
            page = f"{address}/#/experiments/{experiment}/runs?compareRunsMode=CHART"
            _take(page, DOCS / "mlflow.png", options.wait)
        with _served(["tensorboard", "--logdir", str(logs)], "/data/environment") as address:
            _take(
                f"{address}/?darkMode=false&tagFilter=rollout%7Ceval#timeseries", DOCS / "tensorboard.png", options.wait
            )
        run = options.run or min(logs.glob("*/SamSegShapes-v0_*"))
        with _served(["sb3-alignsam", "serve", str(run)], "/health") as address:
            _take_corrected(address, Path(temporary))


def _trained(logs: Path) -> Path:
    for seed in (0, 1):
        command = ["sb3-alignsam", "train", "--env", "SamSegShapes-v0", "--algo", "maskable_ppo", "-n", "2048"]
        options = ["--seed", str(seed), "-f", str(logs), "--eval-freq", "512", "--eval-episodes", "16"]
        sizes = ["-params", "n_envs:4", "n_steps:32", "batch_size:64"]
        subprocess.run([*command, *options, *sizes, "--video-freq", "1024"], check=True)
    return logs


def _experiment(database: Path) -> int:
    """The experiment of the newest run."""
    with sqlite3.connect(database) as connection:
        return connection.execute("select experiment_id from runs order by start_time desc").fetchone()[0]


@contextmanager
def _served(command: Sequence[str], health: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while process.poll() is None:
            try:
                urllib.request.urlopen(address + health, timeout=10).close()
                break
            except OSError:
                time.sleep(1)
        yield address
    finally:
        process.terminate()
        process.wait()


def _browser() -> str:
    return next(found for name in BROWSERS if (found := shutil.which(name)))


def _take(address: str, path: Path, seconds: int) -> None:
    """A picture of a page once it has drawn itself; without WebGL, which a picture may come too early for."""
    with tempfile.TemporaryDirectory() as temporary:
        taken = Path(temporary) / "page.png"
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-3d-apis", "--hide-scrollbars"]
        options += ["--window-size=1900,1000", f"--virtual-time-budget={1000 * seconds}", f"--screenshot={taken}"]
        command = [_browser(), *options, f"--user-data-dir={temporary}/profile", address]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _keep(taken, path)


def _take_corrected(address: str, temporary: Path) -> None:
    """Two pictures, wide and narrow, of the page of `serve`: the agent has clicked, a person has corrected it."""
    sample, taken = ShapesDataset("val").get(SCENE), temporary / "page.png"
    Image.fromarray(sample.image).save(temporary / "scene.png")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_browser(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 860}, reduced_motion="reduce")
        page.goto(address)
        page.set_input_files("#file", temporary / "scene.png")
        page.wait_for_selector("#frame:not([hidden])")
        if page.is_visible("#any"):
            page.fill("#any", sample.category)
        else:
            page.select_option("#known", sample.category)
        page.click("#segment")
        page.wait_for_selector("#png:enabled")
        page.click("#frame", button="right", position={"x": 100, "y": 380})
        page.wait_for_selector(".marker.you:enabled")
        page.wait_for_timeout(500)  # until the marker has stopped moving
        page.screenshot(path=taken)
        _keep(taken, DOCS / "serve.png")
        page.set_viewport_size({"width": 390, "height": 844})
        page.screenshot(path=taken, full_page=True)
        _keep(taken, DOCS / "serve_narrow.png")
        browser.close()


def _keep(taken: Path, path: Path) -> None:
    """Keep a picture, in as few colours as make it small enough for a repository."""
    colours = 256
    while True:
        Image.open(taken).convert("RGB").quantize(colours).save(f"{path}.tmp", "PNG", optimize=True)
        if os.path.getsize(f"{path}.tmp") <= MOST_BYTES or colours <= 16:
            break
        colours //= 2
    os.replace(f"{path}.tmp", path)
    print(path)


if __name__ == "__main__":
    main()
