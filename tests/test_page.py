"""The report's web page in a real browser: tables sort, marks tell their record, sounds play."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reports.markdown import table
from reports.plots import use_style
from reports.plots.base import tip, to_svg
from reports.sounds import class_sounds, path_of
from reports.to_html import to_html

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """
<script>
addEventListener("load", async () => {
  const column = () => [...document.querySelectorAll("tbody td:last-child")].map((cell) => cell.textContent);
  const button = document.querySelector("th:last-child button");
  button.click();
  const ascending = column();
  button.click();
  const descending = column();
  document.querySelector(".tip").dispatchEvent(new PointerEvent("pointerenter"));
  const audio = document.querySelector("button.sound audio");
  const seconds = await new Promise((resolve) => {
    audio.addEventListener("loadedmetadata", () => resolve(audio.duration));
    audio.addEventListener("error", () => resolve(null));
    audio.load();
  });
  const found = { ascending, descending, tip: document.getElementById("tip").textContent, seconds };
  await fetch("/found", { method: "POST", body: JSON.stringify(found) });
});
</script></body>"""


def probed(page: Path, profile: Path) -> dict[str, object]:
    """What the page's probe posts once it is done.

    A sound is decoded by a thread of the browser's own, in its own time: on a busy machine `--dump-dom` with a budget
    of virtual time prints a page that still waits for it. Here the page itself says when.
    """
    posted: queue.Queue[bytes] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(page.read_bytes() if self.path == "/" else b"")

        def do_POST(self) -> None:
            posted.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.reply(b"")

        def reply(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        # With a debugging port a headless browser stays open until it is ended.
        command += ["--remote-debugging-port=0", f"http://127.0.0.1:{server.server_port}/"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            found: dict[str, object] = json.loads(posted.get(timeout=300))
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
    return found


@pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome to open the page")
def test_tables_sort_marks_tell_and_sounds_play(tmp_path: Path) -> None:
    use_style()
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    (mark,) = axes.plot([1], [2], "o")
    tip(mark, "mast_base", "record abc")
    label, sound = next(iter(class_sounds().items()))
    rows = [["a", "10.5"], ["b", "–"], ["c", "9.1 → 2.0 [1.0, 3.0]"]]
    markdown = (
        f"# Page\n\n{table(['Row', 'Score'], rows)}\n![caption](figures/one.png)\n\n[{label}]({path_of(label)})\n"
    )
    page = to_html(markdown, {"figures/one": to_svg(figure)}, {path_of(label): sound})
    pyplot.close(figure)
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", PROBE), encoding="utf-8")
    found = probed(path, tmp_path / "profile")
    # By the measured number; a cell without one comes last either way.
    assert [text[:4] for text in found["ascending"]] == ["9.1 ", "10.5", "–"]
    assert [text[:4] for text in found["descending"]] == ["10.5", "9.1 ", "–"]
    assert found["tip"] == "mast_base · record abc"
    assert found["seconds"] == pytest.approx(2.0, abs=0.01)
