"use strict";
// Tables sort by a click on a column's title, or by Enter on it; marks of figures show the record behind them.

// A cell's number: what was measured, after the arrow, or else what is quoted. NaN where there is none.
function value(cell) {
  const text = cell.textContent.split("→").pop().replace(/,(?=\d{3})/g, "");
  const found = text.match(/^\s*[+\-−]?\d+(\.\d+)?(e[+-]?\d+)?/i);
  return found ? parseFloat(found[0].replace("−", "-")) : NaN;
}

function sortBy(table, column, ascending) {
  const rows = [...table.tBodies[0].rows];
  const numbers = rows.map((row) => value(row.cells[column]));
  const numeric = numbers.some((number) => !Number.isNaN(number));
  const order = rows.map((row, place) => ({ row, place, number: numbers[place], text: row.cells[column].textContent }));
  order.sort((a, b) => {
    if (numeric) {
      // Cells without a number come last in both directions.
      if (Number.isNaN(a.number) || Number.isNaN(b.number)) {
        return Number.isNaN(a.number) - Number.isNaN(b.number) || a.place - b.place;
      }
      return (ascending ? a.number - b.number : b.number - a.number) || a.place - b.place;
    }
    return (ascending ? 1 : -1) * a.text.localeCompare(b.text) || a.place - b.place;
  });
  table.tBodies[0].append(...order.map((entry) => entry.row));
}

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const ascending = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.hasAttribute("aria-sort") && other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      sortBy(table, column, ascending);
    });
  });
}

// One sound at a time; a second click stops it.
for (const button of document.querySelectorAll("button.sound")) {
  const audio = button.querySelector("audio");
  const playing = (is) => button.setAttribute("aria-pressed", is);
  playing(false);
  audio.addEventListener("play", () => playing(true));
  audio.addEventListener("pause", () => playing(false));
  button.addEventListener("click", () => {
    const stop = !audio.paused;
    document.querySelectorAll("button.sound audio").forEach((other) => other.pause());
    if (stop) return;
    audio.currentTime = 0;
    audio.play();
  });
}

const box = document.getElementById("tip");

function show(mark) {
  const place = mark.getBoundingClientRect();
  box.hidden = false;
  box.style.left = Math.max(4, Math.min(place.left, innerWidth - box.offsetWidth - 8)) + "px";
  box.style.top = Math.max(4, place.top - box.offsetHeight - 6) + "px";
}

for (const mark of document.querySelectorAll(".tip")) {
  // The title would show a second box; it stays as the mark's name for those who do not see it.
  const title = mark.querySelector("title");
  const text = title.textContent;
  mark.setAttribute("aria-label", text);
  title.remove();
  const enter = () => { box.textContent = text; show(mark); };
  const leave = () => { box.hidden = true; };
  mark.addEventListener("pointerenter", enter);
  mark.addEventListener("pointerleave", leave);
  mark.addEventListener("focus", enter);
  mark.addEventListener("blur", leave);
}
