// The page at work: its pictures drawn, each with its buttons, and tables that sort.

for (const figure of document.querySelectorAll(".chart")) {
  charts[figure.dataset.chart](figure.querySelector(".plots"), figure.querySelector(".controls"), DATA[figure.dataset.of][figure.dataset.number]);
  downloads(figure);
}

// Sorting: numbers by their full value, text as text; what has no number comes last. A third press restores the order.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").onclick = () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[head.getAttribute("aria-sort") || "none"];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next !== "none") head.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      const compare = (a, b) => {
        const [p, q] = [a.cells[column], b.cells[column]];
        if ("value" in p.dataset && "value" in q.dataset) return sign * (p.dataset.value - q.dataset.value);
        if ("value" in p.dataset || "value" in q.dataset) return "value" in p.dataset ? -1 : 1;
        return sign * p.textContent.localeCompare(q.textContent, "en", { numeric: true });
      };
      body.append(...(next === "none" ? original : [...original].sort(compare)));
    };
  });
}

window.addEventListener("beforeprint", redraw);
window.addEventListener("afterprint", redraw);
