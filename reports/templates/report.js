// Filters the table of attacks. The page is complete without it.
(() => {
  const tools = document.getElementById("attack-tools");
  if (!tools) return;
  const rows = [...document.getElementById("attack-table").tBodies];
  const [words, outcome, told] = tools.querySelectorAll("input, select, [role=status]");

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
