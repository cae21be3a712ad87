// Networks under disturbances, and accuracy, robustness and cost together.

Object.assign(charts, {
  disturbances(plots, controls, found) {
    plots.classList.add("many");
    const looks = looksOf(found.networks);
    const dashed = found.panels.some((panel) => panel.lines.some((line) => line.dashed));
    const shared = found.networks.map(([name]) => ({ ...looks[name], name, points: [{}] }));
    plots.shared = shared;
    const holders = () => [...plots.querySelectorAll(".plot")];
    if (shared.length > 1) legend(controls, shared, redraw, (one) => {
      for (const holder of holders()) {
        const place = holder.figure.series.findIndex((series) => one && series.name === one.name);
        holder.brighten(one && place >= 0 ? place : null);
      }
    });
    const unit = found.unit ? ` ${found.unit}` : "";
    const series = (panel) => panel.lines.map((line) => {
      const { lows = line.means, highs = line.means, axis = panel.axis } = line;
      const name = found.networks[line.network][0];
      const made = {
        ...looks[name], name: line.dashed ? `${name}, attack from another seed` : name, marker: true, radius: 2, area: true,
        points: axis.map((x, place) => ({
          x, y: line.means[place], low: lows[place], high: highs[place],
          text: `${panel.names[x] ?? number(x)}${panel.unit ? ` ${panel.unit}` : ""}: ${number(line.means[place])}${unit}` +
            (lows[place] === highs[place] ? "" : ` (${number(lows[place])} to ${number(highs[place])})`),
        })),
      };
      if (line.dashed) made.dash = "5 3";
      return Object.defineProperty(made, "hidden", { get: () => shared[line.network].hidden });
    });
    // One scale for all panels, so that they compare.
    const all = found.panels.flatMap((panel) => panel.lines.flatMap((line) => [...line.means, ...(line.lows || []), ...(line.highs || [])]));
    const [low, high] = extent(all, 0.04);
    for (const panel of found.panels)
      plot(plots, {
        title: `${found.metric} under ${panel.title}`, heading: panel.title, series: series(panel), legend: false, height: 210,
        x: { label: panel.unit || "level", ticks: Object.keys(panel.names).map(Number).sort((a, b) => a - b), names: panel.names },
        y: { label: `${found.metric}${found.unit ? `, ${found.unit}` : ""}`, low, high },
      });
    plots.append(note("Lines: means over draws and seeds. Shaded: from the lowest to the highest." + (dashed ? " Dashed: the attack comes from another seed." : "")));
  },

  tradeoff(plots, controls, found) {
    const draw = () => {
      plots.replaceChildren();
      const cost = found.costs[choiceOf.selectedIndex];
      const there = found.points.filter((point) => point.costs[cost.name] !== undefined);
      const known = there.map((point) => point.robustness).filter((value) => value !== null);
      const [low, high] = [Math.min(...known), Math.max(...known)];
      const fill = (value) => (value === null ? "var(--paper)" : `color-mix(in oklab, var(--ink) ${Math.round(8 + (84 * (value - low)) / (high - low || 1))}%, var(--paper))`);
      const series = [...new Set(there.map((point) => point.family))].map((family) => ({
        name: family, color: color(family), kind: "points", marker: true, hollow: true, radius: 6,
        points: there.filter((point) => point.family === family).map((point) => ({
          x: point.costs[cost.name], y: point.figure, fill: fill(point.robustness), name: point.front.includes(cost.name) ? point.name : "",
          text: `${point.name}\n${number(point.figure)} ${found.unit} ${found.metric}, robustness ${number(point.robustness)}\n${number(point.costs[cost.name])} ${cost.unit}`,
        })),
      }));
      const positive = there.every((point) => point.costs[cost.name] > 0);
      plot(plots, {
        title: `${found.metric} against ${cost.name}`, series, x: { label: `${cost.name}, ${cost.unit}: ${cost.about}`, log: positive, pad: 0.06 },
        y: { label: `test ${found.metric}${found.unit ? `, ${found.unit}` : ""}` },
      });
      plots.append(note("Named: no other network is at least as good in accuracy, robustness and this cost. " +
        (known.length ? `Fill: robustness; a fuller circle is better (${number(low)} to ${number(high)}).` : "Robustness: not measured.")));
    };
    const choiceOf = choice(controls, "cost", found.costs.map((cost) => cost.name), draw);
    draw();
  },
});
