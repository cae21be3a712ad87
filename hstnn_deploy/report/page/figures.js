// The pictures of studies and of profile records, each from its data.

const DATA = JSON.parse(document.getElementById("data").textContent);
const color = (family) => `var(--${family}, var(--ffs))`;
const unitOf = (study) => (study.unit ? ` ${study.unit}` : "");
const DASHES = ["", "8 3", "2 3", "8 3 2 3", "4 2", "12 3", "2 6"];
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function choice(controls, label, options, changed) {
  const select = element("select");
  for (const option of options) select.append(element("option", {}, option));
  select.onchange = () => changed(select.value);
  controls.append(element("label", {}, label, select));
  return select;
}

// The interval to draw. A share is at most 100 %, so the drawing ends there; the text gives all of it.
function spread(cell, study) {
  if (cell.half_width_95 === null) return {};
  const most = study.unit === "%" ? 100 : Infinity;
  return { low: Math.max(0, cell.mean - cell.half_width_95), high: Math.min(most, cell.mean + cell.half_width_95) };
}

// Single seeds, where there are several.
function seedsOf(cell) {
  return cell.runs.length > 1 ? cell.runs.map((run) => [run.seed, run.value]) : [];
}

function said(cell, unit) {
  const seeds = `${cell.n} seed${cell.n === 1 ? "" : "s"}`;
  const range = cell.half_width_95 === null ? "no interval: one seed" : `± ${number(cell.half_width_95)} (95 %)`;
  const lacks = cell.complete ? "" : "\nincomplete: " + Object.entries(cell.missing).map(([seed, why]) => `${seed} ${why}`).join("; ");
  return `${number(cell.mean)}${unit} ${range}, ${seeds}${lacks}`;
}

const charts = {
  ratio(plots, controls, study) {
    const cells = study.cells.filter((cell) => cell.n && cell.stage !== "adapt");
    const unit = unitOf(study);
    const families = [...new Set(cells.filter((cell) => cell.ratio !== null).map((cell) => cell.family))];
    const series = families.map((family, place) => ({
      name: family, color: color(family), kind: "line", marker: true, caps: true, shift: (place - (families.length - 1) / 2) * 3,
      points: cells.filter((cell) => cell.family === family)
        .map((cell) => ({ x: cell.ratio, y: cell.mean, seeds: seedsOf(cell), ...spread(cell, study), text: `ratio ${cell.ratio}: ${said(cell, unit)}` })),
    }));
    for (const cell of cells.filter((one) => one.ratio === null))
      series.push({ name: cell.kind, color: color(cell.kind), kind: "band", points: [{ y: cell.mean, at: cell.kind === "snn" ? 1 : 0, seeds: seedsOf(cell), ...spread(cell, study), text: said(cell, unit) }] });
    const published = study.published;
    if (published) {
      for (const family of ["ffs", "hybrid"]) {
        const points = Object.entries(published[family]).map(([ratio, figure]) => ({ x: Number(ratio), y: figure, text: `ratio ${ratio}: ${figure}${unit}` }));
        if (points.length) series.push({ name: `${family}, published`, color: color(family), kind: "line", dash: "2 4", marker: true, hollow: true, radius: 3, points: points.sort((a, b) => a.x - b.x) });
      }
      for (const kind of ["rnn", "lstm", "snn"])
        if (published[kind] !== null) series.push({ name: `${kind}, published`, color: color(kind), kind: "band", dash: "2 4", points: [{ y: published[kind], text: `${published[kind]}${unit}` }] });
    }
    const ratios = [...new Set(series.filter((one) => one.kind === "line").flatMap((one) => one.points.map((point) => point.x)))].sort((a, b) => a - b);
    plot(plots, {
      title: `Test ${study.metric} against ratio`, description: "Error bars and bands are 95 % confidence intervals of the mean over seeds.", series,
      x: { label: "ratio: spiking share of the units", ticks: ratios, low: 0, high: 1 },
      y: { label: `test ${study.metric}${study.unit ? `, ${study.unit}` : ""}` },
    });
    plots.append(note("Error bars and bands: 95 % confidence interval of the mean over seeds; small dots: single seeds (of a pure network at the end of the axis). A series without bars has one seed." + (study.unit === "%" ? " They are drawn up to 100 %." : "")));
  },

  curves(plots, controls, study) {
    const quantities = Object.keys(study.curves[0]?.rows || {}).filter((name) => name !== "epoch");
    if (!quantities.length) return plots.append(note("No epoch is done yet."));
    const first = quantities.includes(`valid_${study.metric}`) ? `valid_${study.metric}` : quantities[0];
    const networks = [...new Map(study.curves.map((curve) => [curve.network, curve.family]))];
    const hidden = new Set();
    const looks = looksOf(networks);
    const draw = () => {
      plots.replaceChildren();
      const [quantity, each] = [quantityChoice.value, eachChoice.value === "every seed"];
      const series = networks.flatMap(([network, family]) => {
        const curves = study.curves.filter((curve) => curve.network === network && curve.rows[quantity]);
        const look = looks[network];
        const made = each ? curves.map((curve) => ({ ...look, name: `${network}, seed ${curve.seed}`, points: pointsOf([curve], quantity) }))
          : [{ ...look, name: network, points: pointsOf(curves, quantity) }];
        return made.map((one) => Object.defineProperty(one, "hidden", { get: () => hidden.has(one.name), set: (on) => (on ? hidden.add(one.name) : hidden.delete(one.name)) }));
      });
      plot(plots, { title: `Learning curves, ${quantity}`, series, x: { label: "epoch", pad: 0.01, whole: true }, y: { label: quantity.replace("_", " ") } });
    };
    const pointsOf = (curves, quantity) => {
      const epochs = [...new Set(curves.flatMap((curve) => curve.rows.epoch))].sort((a, b) => a - b);
      return epochs.map((epoch) => {
        const values = curves.map((curve) => curve.rows[quantity][curve.rows.epoch.indexOf(epoch)]).filter((value) => value !== undefined && value !== null);
        const range = values.length > 1 ? ` (${number(Math.min(...values))} to ${number(Math.max(...values))}, ${values.length} seeds)` : "";
        return values.length ? { x: epoch, y: mean(values), text: `epoch ${epoch}: ${number(mean(values))}${range}` } : { x: epoch, y: null, text: "" };
      });
    };
    const quantityChoice = choice(controls, "quantity", quantities, draw);
    quantityChoice.value = first;
    const eachChoice = choice(controls, "show", ["mean over seeds", "every seed"], draw);
    draw();
  },

  kept(plots, controls, study) {
    const cells = study.cells.filter((cell) => cell.n && cell.stage === "restore");
    if (!cells.length) return plots.append(note("No restoration is finished yet."));
    plots.classList.add("pairs");
    const layers = cells[0].runs[0].units.length;
    const most = Math.max(...cells.flatMap((cell) => cell.runs.flatMap((run) => run.units.map(([spiking, recurrent]) => spiking + recurrent))));
    for (let layer = 0; layer < layers; layer++)
      bars(plots, {
        title: `Units kept in layer ${layer + 1}`, heading: `Layer ${layer + 1}`, most,
        rows: cells.map((cell) => ({
          label: cell.network,
          parts: [["snn", "spiking", 0], [cell.recurrent, "recurrent", 1]].map(([kind, name, place]) => {
            const value = mean(cell.runs.map((run) => run.units[layer][place]));
            return { value, name, color: color(kind), text: number(Math.round(value * 10) / 10) };
          }),
        })),
      });
    controls.append(key("snn", "spiking"), key(cells[0].recurrent, "recurrent"), note("Means over seeds; the table below lists every seed."));
  },

  importance(plots, controls, study) {
    plots.classList.add("pairs");
    const selections = study.selections;
    const networks = [...new Set(selections.map((one) => one.network))];
    const seeds = [...new Set(selections.map((one) => String(one.seed)))];
    const draw = () => {
      plots.replaceChildren();
      const selection = selections.find((one) => one.network === networkChoice.value && String(one.seed) === seedChoice.value);
      if (!selection) return plots.append(note("This seed has no selection at this ratio."));
      study.importances[selection.of].forEach((group, place) => {
        const { kept, stability } = selection.groups[place];
        const chosen = new Set(kept);
        const order = group.importance.map((_, unit) => unit).sort((a, b) => group.importance[b] - group.importance[a]);
        const ranked = order.map((unit, rank) => ({ unit, rank: rank + 1 }));
        const name = group.kind === "snn" ? "spiking" : "recurrent";
        const paint = color(group.kind === "snn" ? "snn" : "rnn");
        const describe = ({ unit, rank }) => `unit ${unit}, rank ${rank}\nimportance ${number(group.importance[unit])} ± ${number(group.error[unit])}\nkept again in ${number(100 * stability[unit])} % of bootstraps`;
        const sides = [[true, "kept"], [false, "not kept"]].map(([wanted, label]) => ({
          name: label, color: paint, kind: "points", marker: true, hollow: !wanted, radius: order.length > 200 ? 1.5 : 3, faint: true,
          points: ranked.filter(({ unit }) => chosen.has(unit) === wanted).map((one) => ({
            x: one.rank, y: group.importance[one.unit], low: group.importance[one.unit] - group.error[one.unit],
            high: group.importance[one.unit] + group.error[one.unit], text: describe(one),
          })),
        }));
        plot(plots, {
          title: `Importance in layer ${group.layer}, ${name} units`, heading: `Layer ${group.layer}, ${name}: ${kept.length} of ${order.length} kept`,
          series: sides, legend: false, x: { label: "rank within the layer and kind", low: 0, high: order.length + 1, whole: true }, y: { label: "importance ± standard error" }, height: 250,
        });
        plot(plots, {
          title: `Stability in layer ${group.layer}, ${name} units`, heading: `Layer ${group.layer}, ${name}: how often kept again`, legend: false, height: 250,
          series: sides.map((side) => ({ ...side, points: ranked.filter(({ unit }) => chosen.has(unit) === !side.hollow).map((one) => ({ x: one.rank, y: 100 * stability[one.unit], text: describe(one) })) })),
          x: { label: "rank within the layer and kind", low: 0, high: order.length + 1, whole: true }, y: { label: "% of bootstraps", low: -4, high: 104 },
        });
      });
      summary.textContent = `Filled: kept, hollow: not kept; bars: one standard error over the probes. On average, selection keeps a kept unit again in ${number(100 * selection.mean)} % of bootstraps.`;
    };
    const networkChoice = choice(controls, "network", networks, draw);
    const seedChoice = choice(controls, "seed", seeds, draw);
    const summary = note("");
    controls.append(summary);
    draw();
  },

  variation(plots, controls, measured) {
    const widths = [...new Set(measured.networks.map((network) => network.bits))].sort((a, b) => a - b);
    if (widths.length > 1) plots.classList.add("pairs");
    const unit = unitOf(measured);
    const points = (network) => network.points.map((point) => ({
      x: point.scale, y: point.mean, ...spread(point, measured), text: `${number(point.scale)} times sigma: ${underVariation(point, measured, unit)}`,
    }));
    // One scale for all panels, so that they compare.
    const [low, high] = extent(measured.networks.flatMap(points).flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]), 0.06);
    for (const bits of widths)
      plot(plots, {
        title: `${measured.metric} against variation, ${bits} bits of RRAM`, heading: `${bits} bit${bits === 1 ? "" : "s"} of RRAM`, height: 300,
        description: "Bars are 95 % confidence intervals of the mean over draws.",
        series: measured.networks.filter((network) => network.bits === bits).map((network) => ({
          name: network.label, color: color(network.step), dash: DASHES[network.place % DASHES.length], kind: "line", marker: true, caps: true, points: points(network),
        })),
        x: { label: "variation, times sigma" }, y: { label: `${measured.metric}${measured.unit ? `, ${measured.unit}` : ""}`, low, high },
      });
    plots.append(note("At 0: without variation. Bars: 95 % confidence interval of the mean over draws." + (measured.unit === "%" ? " They are drawn up to 100 %." : "")));
  },

  memory(plots, controls, measured) {
    const unit = unitOf(measured);
    const steps = [...new Set(measured.networks.map((network) => network.step))];
    const series = steps.map((step) => ({
      name: step, color: color(step), kind: "points", marker: true, caps: true,
      points: measured.networks.filter((network) => network.step === step).map((network) => ({
        x: network.devices / 1000, y: network.nominal.mean, ...spread(network.nominal, measured),
        text: `${network.name}, ${network.bits} bit${network.bits === 1 ? "" : "s"} of RRAM, ${network.devices} bits in all\n${number(network.nominal.scale)} times sigma: ${underVariation(network.nominal, measured, unit)}`,
      })),
    }));
    const scales = [...new Set(measured.networks.map((network) => network.nominal.scale))];
    const under = scales.length === 1 ? ` at ${number(scales[0])} times sigma` : "";
    plot(plots, {
      title: `${measured.metric} against bits of RRAM and SRAM`, series, x: { label: "RRAM and SRAM of the convolutions, 1000 bits" },
      y: { label: `${measured.metric}${measured.unit ? `, ${measured.unit}` : ""}${under}` },
    });
    plots.append(note("SRAM: the smaller of the two ways to store it. Bars: 95 % confidence interval of the mean over draws."));
  },

  cost(plots, controls) {
    const records = DATA.records.filter((record) => record.ratio !== null);
    const names = [...new Set(records.flatMap((record) => Object.keys(record.values)))];
    const ratios = [...new Set(records.map((record) => record.ratio))].sort((a, b) => a - b);
    const draw = () => {
      plots.replaceChildren();
      const name = valueChoice.value;
      const some = records.filter((record) => record.values[name]);
      const unit = { B: "MB", s: "ms" }[some[0].values[name].unit] || some[0].values[name].unit;
      const factor = { MB: 1e-6, ms: 1e3 }[unit] || 1;
      const groups = [...new Set(some.map((record) => record.series))];
      const series = groups.map((group, place) => ({
        name: group, ...look(place), kind: "line", marker: true,
        points: some.filter((record) => record.series === group).sort((a, b) => a.ratio - b.ratio)
          .map((record) => ({ x: record.ratio, y: record.values[name].number * factor, text: `ratio ${record.ratio}: ${number(record.values[name].number * factor)} ${unit}` })),
      }));
      plot(plots, { title: `${name} against ratio`, series, x: { label: "ratio: spiking share of the units", low: 0, high: 1, ticks: ratios }, y: { label: `${name.replaceAll("_", " ")}, ${unit}`, low: 0 } });
    };
    const valueChoice = choice(controls, "value", names, draw);
    if (names.includes("latency_p50")) valueChoice.value = "latency_p50";
    draw();
  },

  latency(plots) {
    const series = DATA.records.filter((record) => record.latencies.length).map((record, place) => ({
      name: record.title, ...look(place), kind: "line", marker: record.latencies.length < 10,
      points: record.latencies.map(([seconds, share]) => ({ x: 1e3 * seconds, y: 100 * share, text: `${number(100 * share)} % of calls within ${number(1e3 * seconds)} ms` })),
    }));
    plot(plots, { title: "Distribution of the time of one call", series, x: { label: "time of one call, ms (logarithmic)", log: true }, y: { label: "% of calls within it", low: 0, high: 100 } });
  },

  timeline(plots, controls) {
    const records = DATA.records.filter((record) => record.timeline);
    const titles = records.map((record, place) => `${place + 1}. ${record.title}`);
    const draw = () => {
      plots.replaceChildren();
      const { t, columns, spans } = records[titles.indexOf(recordChoice.value)].timeline;
      const phases = spans.map((span, place) => ({ ...span, even: place % 2 === 0 }));
      const within = (time) => spans.filter((span) => span.start <= time && time <= span.start + span.seconds).map((span) => `, ${span.name}`).join("");
      const series = Object.entries(columns).map(([name, values], place) => ({
        name: name.replaceAll("_", " "), ...look(place), kind: "line",
        points: t.map((time, row) => ({ x: time, y: values[row] === null ? null : values[row] * 1e-6, text: `${number(time)} s${within(time)}: ${number((values[row] || 0) * 1e-6)} MB` })),
      }));
      plot(plots, { title: "Memory over time", series, phases, x: { label: "seconds from the start", pad: 0.01 }, y: { label: "memory, MB", low: 0 } });
    };
    const recordChoice = choice(controls, "record", titles, draw);
    draw();
  },
};

function underVariation(point, measured, unit) {
  if (point.scale === 0) return `${number(point.mean)}${unit}`;
  const range = point.half_width_95 === null ? "no interval: one draw" : `± ${number(point.half_width_95)} (95 %)`;
  return `${number(point.mean)}${unit} ${range}, ${measured.draws} draw${measured.draws === 1 ? "" : "s"}`;
}

// A family has a colour; within it, networks have tints and dashes. `networks`: pairs of a name and its family.
function looksOf(networks) {
  return Object.fromEntries(networks.map(([network, family]) => {
    const same = networks.filter(([, other]) => other === family);
    const place = same.findIndex(([name]) => name === network);
    const tint = same.length < 2 ? 100 : 100 - (40 * place) / (same.length - 1);
    return [network, { color: `color-mix(in oklab, ${color(family)} ${tint}%, var(--ink))`, kind: "line", dash: DASHES[place % DASHES.length] }];
  }));
}

// Colours for what has none of its own; when they are used up, they come again with dashes.
function look(place) {
  const names = ["hybrid", "ffs", "rnn", "snn", "lstm", "ffs-lstm", "ink"];
  return { color: color(names[place % names.length]), dash: DASHES[Math.floor(place / names.length) % DASHES.length] };
}

function note(text) {
  return element("span", { class: "aside" }, text);
}

function key(kind, name) {
  const sample = element("span", { "aria-hidden": "true", class: "swatch", style: `background: ${color(kind)}` });
  return element("span", {}, sample, ` ${name}`);
}
