// What networks do: which classes they take for which, and when the units of their layers fire.

// A confusion matrix. `options`: title, heading, counts (a row for each class, a column for each answer), names.
function matrix(parent, options) {
  const { counts, names } = options;
  const holder = element("div", { class: "plot" });
  holder.figure = options;
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ role: "img", "aria-label": `${options.title}. The table of classes below has the same data.` })) svg.setAttribute(name, value);
  holder.append(svg);
  parent.append(holder);
  const longest = Math.max(...names.map((name) => name.length));
  function draw() {
    const width = Math.max(260, holder.clientWidth);
    const left = Math.min(28 + 7 * longest, width * 0.3);
    const upright = names.some((name) => name.length > 3);
    const top = upright ? 24 + Math.min(7 * longest, 120) : 36;
    const side = Math.min(34, (width - left - 4) / counts.length);
    svg.setAttribute("viewBox", `0 0 ${width} ${top + side * counts.length + 4}`);
    svg.replaceChildren();
    shape(svg, "text", { class: "name", x: left, y: 12 }, "answer of the network");
    shape(svg, "text", { class: "name", transform: `translate(11 ${top + (side * counts.length) / 2}) rotate(-90)`, "text-anchor": "middle" }, "class");
    const every = Math.ceil(14 / side);
    counts.forEach((row, truth) => {
      const total = row.reduce((sum, count) => sum + count, 0);
      if (truth % every === 0) {
        shape(svg, "text", { x: left - 5, y: top + side * (truth + 0.5) + 4, "text-anchor": "end" }, names[truth]);
        const place = left + side * (truth + 0.5);
        shape(svg, "text", upright ? { transform: `translate(${place + 4} ${top - 6}) rotate(-90)` } : { x: place, y: top - 6, "text-anchor": "middle" }, names[truth]);
      }
      row.forEach((count, answer) => {
        const share = total ? count / total : 0;
        const paint = truth === answer ? "var(--rnn)" : "var(--hybrid)";
        const cell = shape(svg, "rect", { x: left + side * answer, y: top + side * truth, width: side - 1, height: side - 1, fill: count ? `color-mix(in oklab, ${paint} ${Math.round(12 + 78 * share)}%, var(--paper))` : "var(--wash)" });
        shape(cell, "title", {}, `${names[truth]} classified as ${names[answer]}: ${count} of ${total}`);
        if (count && side >= 7 * String(count).length + 4)
          shape(svg, "text", { x: left + side * (answer + 0.5) - 0.5, y: top + side * (truth + 0.5) + 4, "text-anchor": "middle", style: share > 0.55 ? "fill: var(--paper)" : "fill: var(--ink)" }, count);
      });
    });
  }
  watch(holder, draw);
  draw();
}

Object.assign(charts, {
  confusion(plots, controls, study) {
    const there = study.seen.filter((one) => one.confusion);
    const draw = () => {
      plots.replaceChildren();
      const one = there[chosen.selectedIndex];
      const names = one.names.length ? one.names : one.confusion.map((_, number) => String(number));
      matrix(plots, { title: `Confusion matrix of ${one.network}`, counts: one.confusion, names });
      plots.append(note(`Test split, ${one.seeds === 1 ? "one seed" : `${one.seeds} seeds together`}. Each row is a class. A stronger colour is a larger share of the row; green marks correct answers.`));
    };
    const chosen = choice(controls, "network", there.map((one) => one.network), draw);
    draw();
  },

  raster(plots, controls, study) {
    plots.classList.add("pairs");
    const there = study.seen.filter((one) => one.raster);
    const draw = () => {
      plots.replaceChildren();
      const { raster, network } = there[chosen.selectedIndex];
      for (const layer of raster.layers)
        plot(plots, {
          title: `Spikes of ${network} in layer ${layer.layer}`, legend: false, height: 230,
          heading: `Layer ${layer.layer}: ${layer.shown < layer.units ? `the first ${layer.shown} of ${layer.units}` : layer.units} spiking units, ${number(100 * layer.rate)} % fire at a step`,
          series: [{
            name: `layer ${layer.layer}`, color: color("snn"), kind: "points", marker: true, radius: 1.6,
            points: layer.places.map((place) => ({ x: Math.floor(place / layer.shown), y: place % layer.shown, text: `step ${Math.floor(place / layer.shown)}, unit ${place % layer.shown}` })),
          }],
          x: { label: "time step", low: -0.5, high: raster.steps - 0.5, whole: true }, y: { label: "unit", low: -1, high: layer.shown },
        });
      plots.append(note(`First sample of the test split, seed ${raster.seed}. The rates are of the whole split.`));
    };
    const chosen = choice(controls, "network", there.map((one) => one.network), draw);
    draw();
  },
});
