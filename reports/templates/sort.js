"use strict";
// Sorts the tables of class "sorts", each row of which is a body of its own. The page is complete without it.
for (const table of document.querySelectorAll("table.sorts")) {
  const rows = [...table.tBodies];

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
}
