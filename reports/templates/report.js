"use strict";
// Sorts and filters the table of attacks. The page is complete without it.
(() => {
  const tools = document.getElementById("attack-tools");
  if (!tools) return;
  const table = document.getElementById("attack-table");
  const rows = [...table.tBodies];
  const [words, outcome, told] = tools.querySelectorAll("input, select, [role=status]");

  // What is missing ("–") stands last whichever way the column is sorted.
  const value = (row, column, numeric) => {
    const cell = row.rows[0].cells[column];
    if (!numeric) return cell.firstChild.textContent.trim();
    return cell.dataset.value === undefined ? NaN : Number(cell.dataset.value);
  };
  const order = (a, b, column, numeric, sign) => {
    const [x, y] = [value(a, column, numeric), value(b, column, numeric)];
    if (!numeric) return sign * x.localeCompare(y, "en", { numeric: true });
    return Number.isNaN(x) - Number.isNaN(y) || sign * (x - y) || 0;
  };
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const numeric = header.classList.contains("num");
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const now = header.getAttribute("aria-sort");
      const next = now === null ? (numeric ? "descending" : "ascending") : now === "ascending" ? "descending" : "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", next);
      table.append(...rows.sort((a, b) => order(a, b, column, numeric, next === "ascending" ? 1 : -1)));
    });
  });

  const filter = () => {
    const asked = words.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const named = !outcome.value || row.dataset.outcome === outcome.value;
      row.hidden = !(named && asked.every((word) => text.includes(word)));
    }
    told.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} attacks shown`;
  };
  words.addEventListener("input", filter);
  outcome.addEventListener("input", filter);
  filter();
  tools.hidden = false;
})();
