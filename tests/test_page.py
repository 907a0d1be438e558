"""The report's web page in a real browser: tables sort, marks tell their record, sounds play."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from reports.document import Figure, Grid, Report, Section, Sounds, numbered, words
from reports.plots import use_style
from reports.plots.base import tip, to_svg
from reports.sounds import class_sounds, path_of
from reports.to_html import to_html

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """
<script>
const post = (found) => fetch("LISTENER", { method: "POST", mode: "no-cors", body: JSON.stringify(found) });
addEventListener("error", (event) => post({ error: event.message }));
addEventListener("unhandledrejection", (event) => post({ error: String(event.reason) }));
addEventListener("load", async () => {
  const column = () => [...document.querySelectorAll("tbody td:last-child")].map((cell) => cell.textContent);
  const button = document.querySelector("th:last-child button");
  button.click();
  const ascending = column();
  button.click();
  const sorted = document.querySelector("th:last-child").getAttribute("aria-sort");
  const descending = column();
  document.querySelector(".tip").dispatchEvent(new PointerEvent("pointerenter"));
  const audio = document.querySelector("button.sound audio");
  const seconds = await new Promise((resolve) => {
    audio.addEventListener("loadedmetadata", () => resolve(audio.duration));
    audio.addEventListener("error", () => resolve(null));
    audio.load();
  });
  post({ ascending, descending, sorted, tip: document.getElementById("tip").textContent, seconds });
});
</script></body>"""


def probed(page: Path, folder: Path) -> dict[str, Any]:
    """What the page's probe posts once it is done; the page is opened as users open it, as a file.

    A sound is decoded by a thread of the browser's own, in its own time: on a busy machine `--dump-dom` with a budget
    of virtual time prints a page that still waits for it. Here the page itself says when.
    """
    posted: queue.Queue[bytes] = queue.Queue()

    class TrainedModel(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    log = folder / "browser.log"
    with ThreadingHTTPServer(("127.0.0.1", 0), TrainedModel) as server, log.open("wb") as errors:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        probe = PROBE.replace("LISTENER", f"http://127.0.0.1:{server.server_port}/")
        page.write_text(page.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
        command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
        # With a debugging port a headless browser stays open until it is ended.
        command += ["--remote-debugging-port=0", page.as_uri()]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            found: dict[str, Any] = json.loads(posted.get(timeout=300))
        except queue.Empty:
            pytest.fail(f"the page posted nothing; the browser: {browser.poll()}, {log.read_text(errors='replace')}")
        finally:
            browser.kill()
            browser.wait()
            server.shutdown()
    assert "error" not in found, found
    return found


@pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome to open the page")
def test_tables_sort_marks_tell_and_sounds_play(tmp_path: Path) -> None:
    use_style()
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    (mark,) = axes.plot([1], [2], "o")
    tip(mark, "mast_base", "record abc")
    label, sound = next(iter(class_sounds().items()))
    rows = (("a", "10.5"), ("b", "–"), ("c", "9.1 → 2.0 [1.0, 3.0]"))
    grid = Grid(key="scores", caption=(), header=("Row", "Score"), rows=tuple(tuple(map(words, row)) for row in rows))
    drawing = Figure(key="one", caption=words("caption"), alt="a mark", svg=to_svg(figure))
    blocks = (grid, drawing, Sounds(sounds=((label, path_of(label)),)))
    section = Section(key="section", title="Section", blocks=blocks)
    report = numbered(Report(title="Page", facts=(), summary=(), body=(section,)))
    page = to_html(report, {path_of(label): sound})
    pyplot.close(figure)
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    found = probed(path, tmp_path)
    # By the measured number; a cell without one comes last either way.
    assert [text[:4] for text in found["ascending"]] == ["9.1 ", "10.5", "–"]
    assert [text[:4] for text in found["descending"]] == ["10.5", "9.1 ", "–"]
    assert found["sorted"] == "descending"
    assert found["tip"] == "mast_base · record abc"
    assert found["seconds"] == pytest.approx(2.0, abs=0.01)
