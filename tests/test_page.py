"""The report's web page in a real browser: tables sort, marks tell their record, sounds play."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
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
  document.body.innerHTML = "<pre id=found>" + JSON.stringify(found) + "</pre>";
});
</script></body>"""


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
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, check=True, timeout=300)
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match is not None, done.stderr
    found = json.loads(match[1])
    # By the measured number; a cell without one comes last either way.
    assert [text[:4] for text in found["ascending"]] == ["9.1 ", "10.5", "–"]
    assert [text[:4] for text in found["descending"]] == ["10.5", "9.1 ", "–"]
    assert found["tip"] == "mast_base · record abc"
    assert found["seconds"] == pytest.approx(2.0, abs=0.01)
