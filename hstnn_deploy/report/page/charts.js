"use strict";
// Drawing: one plot of series over x and y, and one of stacked bars. No dependencies; sizes in CSS pixels.

const SVG = "http://www.w3.org/2000/svg";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function shape(parent, tag, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  parent.append(made);
  return made;
}

function number(value) {
  if (value === null || value === undefined) return "n/a";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
  return String(Number(value.toPrecision(size >= 1000 ? 6 : 4)));
}

// Round numbers that cover low..high in about `count` steps.
function ticksOf(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const ticks = [];
  for (let place = Math.ceil(low / step - 1e-9); place * step <= high + step * 1e-9; place++) ticks.push(place * step);
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const factor of high / low < 30 ? [1, 2, 5] : [1])
      if (factor * 10 ** power >= low && factor * 10 ** power <= high) ticks.push(factor * 10 ** power);
  return ticks.length > 1 ? ticks : ticksOf(low, high, 4);
}

// A scale maps values to pixels. `log` takes positive values only.
function scale(low, high, from, to, log) {
  const bend = log ? Math.log : (value) => value;
  const [a, b] = [bend(low), bend(high)];
  const map = (value) => from + ((bend(value) - a) / (b - a || 1)) * (to - from);
  return Object.assign(map, { low, high, ticks: (count) => (log ? logTicks(low, high) : ticksOf(low, high, count)) });
}

function extent(values, pad) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values)
    if (value !== null && Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
  if (low > high) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * pad;
  return [low - room, high + room];
}

// A logarithmic range with room on both sides.
function wider([low, high], pad) {
  const factor = low > 0 ? (high / low > 1 ? high / low : 10) ** pad : 1;
  return [low / factor, high * factor];
}

// What is drawn anew whenever its width changes.
const drawn = new Set();
function redraw() { for (const draw of drawn) draw(); }

function watch(holder, draw) {
  let width = 0;
  new ResizeObserver(([entry]) => {
    if (Math.round(entry.contentRect.width) === width) return;
    width = Math.round(entry.contentRect.width);
    draw();
  }).observe(holder);
  drawn.add(draw);
}

// A legend of buttons, one per series; a hidden series is a button that is not pressed.
function legend(holder, series, changed, highlight) {
  const list = element("div", { class: "legend", role: "group", "aria-label": "Series shown" });
  for (const one of series) {
    const sample = document.createElementNS(SVG, "svg");
    sample.setAttribute("viewBox", "0 0 22 10");
    sample.setAttribute("aria-hidden", "true");
    if (one.kind === "band" && one.points[0].low !== undefined) shape(sample, "rect", { width: 22, height: 10, fill: one.color, opacity: 0.25 });
    if (one.kind !== "points") shape(sample, "line", { x2: 22, y1: 5, y2: 5, stroke: one.color, "stroke-width": 2, "stroke-dasharray": one.dash || "none" });
    if (one.kind !== "band" && one.marker) shape(sample, "circle", { cx: 11, cy: 5, r: 3.5, stroke: one.color, "stroke-width": 1.5, fill: one.hollow ? "var(--paper)" : one.color });
    const button = element("button", { type: "button", "aria-pressed": String(!one.hidden) }, sample, one.name);
    button.onclick = () => {
      one.hidden = !one.hidden;
      button.setAttribute("aria-pressed", String(!one.hidden));
      changed();
    };
    button.onpointerenter = () => highlight(one);
    button.onpointerleave = () => highlight(null);
    list.append(button);
  }
  holder.append(list);
}

// One plot. `options`: title, x and y ({label, log, low, high, ticks, whole}), series, height, phases, legend.
// A series: name, color, kind ("line", "points", "band"), points [{x, y, low, high, text, fill, name, seeds}], dash, marker, hollow,
// hidden; area: low to high is shaded, not barred.
// A band is a level over the whole width: its first point's y with low and high. Seeds, pairs of a seed and its value, are
// small dots, of a band at the x that its point calls `at`.
function plot(parent, options) {
  const holder = element("div", { class: "plot" });
  parent.append(holder);
  holder.figure = options;
  if (options.heading) holder.append(element("h3", {}, options.heading));
  let bright = null;
  if (options.legend !== false && options.series.length > 1)
    legend(holder, options.series, () => draw(), (one) => { bright = one; paint(); });
  const svg = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ role: "img", tabindex: 0, "aria-label": `${options.title}. ${options.description || ""} The left and right arrow keys move between points.` })) svg.setAttribute(name, value);
  const tip = element("div", { class: "tip", role: "status", hidden: "" });
  holder.append(svg, tip);
  holder.brighten = (place) => { bright = place === null ? null : options.series[place]; paint(); };
  let points = [];
  let current = -1;

  const paint = () => {
    for (const group of svg.querySelectorAll("[data-series]"))
      group.classList.toggle("dim", bright !== null && options.series[group.dataset.series] !== bright);
  };

  function draw() {
    const width = Math.max(260, holder.clientWidth);
    const height = options.height || Math.round(Math.min(380, Math.max(230, width * 0.48)));
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    hide();
    const shown = options.series.filter((one) => !one.hidden && one.points.length);
    const every = shown.flatMap((one) => one.points);
    // A level without a place has the whole width.
    const xs = every.map((point) => point.x).filter((value) => value !== undefined && (!options.x.log || value > 0));
    const ys = every.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y, ...(point.seeds || []).map(([, value]) => value)]).filter((value) => !options.y.log || value > 0);
    const [xLow, xHigh] = options.x.log ? wider(extent(xs, 0), options.x.pad ?? 0) : extent(xs, options.x.pad ?? 0.04);
    const [yLow, yHigh] = options.y.log ? extent(ys, 0) : extent(ys, 0.06);
    const right = 14, top = 12, bottom = 40;
    const y = scale(options.y.low ?? yLow, options.y.high ?? yHigh, height - bottom, top, options.y.log);
    // Room for the longest number and for the axis' name beside it.
    const left = Math.max(58, 28 + 7 * Math.max(...y.ticks(5).map((tick) => number(tick).length)));
    const x = scale(options.x.low ?? xLow, options.x.high ?? xHigh, left, width - right, options.x.log);
    for (const phase of options.phases || []) phaseOf(phase, x, top, height - bottom);
    for (const tick of y.ticks(5)) {
      shape(svg, "line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) });
      shape(svg, "text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, number(tick));
    }
    let clear = -Infinity;
    const named = options.x.names || {};
    for (const tick of options.x.ticks || x.ticks(Math.max(3, Math.floor(width / 90)))) {
      if (options.x.whole && !Number.isInteger(tick)) continue;
      if (x(tick) < left - 1 || x(tick) > width - right + 1) continue;
      shape(svg, "line", { class: "axis", x1: x(tick), x2: x(tick), y1: height - bottom, y2: height - bottom + 4 });
      if (x(tick) - clear < 34) continue;
      shape(svg, "text", { x: x(tick), y: height - bottom + 17, "text-anchor": "middle" }, named[tick] ?? number(tick));
      clear = x(tick);
    }
    shape(svg, "line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom });
    shape(svg, "text", { class: "name", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, options.x.label);
    shape(svg, "text", { class: "name", transform: `translate(12 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, options.y.label);
    points = [];
    for (const one of shown) {
      const group = shape(svg, "g", { "data-series": options.series.indexOf(one) });
      if (one.kind === "band") bandOf(group, one, x, y, left, width - right);
      else lineOf(group, one, x, y);
    }
    points.sort((a, b) => a.px - b.px || a.py - b.py);
    paint();
  }

  function phaseOf(phase, x, top, bottom) {
    const [from, to] = [x(phase.start), x(phase.start + phase.seconds)];
    shape(svg, "rect", { x: from, y: top, width: Math.max(1, to - from), height: bottom - top, fill: "var(--soft)", opacity: phase.even ? 0.14 : 0.06 });
    if (to - from > 7 * phase.name.length) shape(svg, "text", { x: (from + to) / 2, y: top + 12, "text-anchor": "middle" }, phase.name);
  }

  function bandOf(group, one, x, y, left, right) {
    const level = one.points[0];
    if (level.low !== undefined && level.low !== null)
      shape(group, "rect", { x: left, width: right - left, y: y(level.high), height: Math.max(1, y(level.low) - y(level.high)), fill: one.color, opacity: 0.13 });
    shape(group, "line", { x1: left, x2: right, y1: y(level.y), y2: y(level.y), stroke: one.color, "stroke-width": 1.75, "stroke-dasharray": one.dash || "none" });
    seedsOf(group, one, level, x(level.at ?? x.low), y);
    for (const share of [0.02, 0.25, 0.5, 0.75, 0.98])
      points.push({ px: left + share * (right - left), py: y(level.y), text: `${one.name}\n${level.text}`, series: one });
  }

  function seedsOf(group, one, point, px, y) {
    for (const [, value] of point.seeds || []) shape(group, "circle", { class: "seed", cx: px, cy: y(value), r: 2.3, fill: one.color, opacity: 0.8 });
  }

  function lineOf(group, one, x, y) {
    const there = one.points.filter((point) => point.y !== null && (!options.x.log || point.x > 0) && (!options.y.log || point.y > 0));
    let errors = "", dots = "";
    if (one.area && there.length > 1 && there.some((point) => point.high !== point.low)) {
      const along = (some, key) => some.map((point) => `${x(point.x)} ${y(point[key])}`).join("L");
      shape(group, "path", { class: "area", d: `M${along(there, "high")}L${along([...there].reverse(), "low")}Z`, fill: one.color, opacity: 0.1 });
    }
    for (const point of there) {
      const [px, py] = [x(point.x) + (one.shift || 0), y(point.y)];
      points.push({ px, py, text: `${one.name}\n${point.text}`, series: one });
      if (!one.area && point.low !== undefined && point.low !== null) {
        errors += `M${px} ${y(point.low)}V${y(point.high)}`;
        if (one.caps) errors += `M${px - 4} ${y(point.low)}h8M${px - 4} ${y(point.high)}h8`;
      }
      const radius = one.radius || 4;
      dots += `M${px - radius} ${py}a${radius} ${radius} 0 1 0 ${2 * radius} 0a${radius} ${radius} 0 1 0 ${-2 * radius} 0`;
    }
    if (one.kind !== "points") {
      const path = there.map((point, place) => `${place ? "L" : "M"}${x(point.x) + (one.shift || 0)} ${y(point.y)}`).join("");
      shape(group, "path", { class: "line", d: path, stroke: one.color, "stroke-dasharray": one.dash || "none" });
    }
    if (errors) shape(group, "path", { class: "bars", d: errors, stroke: one.color, opacity: one.faint ? 0.45 : 1 });
    if (one.marker || there.length === 1) shape(group, "path", { d: dots, stroke: one.color, "stroke-width": 1.5, fill: one.hollow ? "var(--paper)" : one.color });
    for (const point of there) {
      seedsOf(group, one, point, x(point.x) + (one.shift || 0) + 7, y);
      if (point.fill) shape(group, "circle", { cx: x(point.x), cy: y(point.y), r: (one.radius || 4) - 0.75, fill: point.fill });
      if (point.name) {
        const late = x(point.x) > x(x.high) - 110;
        shape(group, "text", { x: x(point.x) + (late ? -8 : 8), y: y(point.y) - 7, "text-anchor": late ? "end" : "start" }, point.name);
      }
    }
  }

  function show(place) {
    const point = points[place];
    if (!point) return;
    current = place;
    tip.textContent = point.text;
    tip.hidden = false;
    const ratio = svg.clientWidth / svg.viewBox.baseVal.width;
    const wide = tip.offsetWidth, high = tip.offsetHeight;
    const [px, py] = [point.px * ratio, svg.getBoundingClientRect().top - holder.getBoundingClientRect().top + point.py * ratio];
    tip.style.left = `${Math.max(0, Math.min(holder.clientWidth - wide, px + 12 + wide > holder.clientWidth ? px - wide - 12 : px + 12))}px`;
    tip.style.top = `${py - high - 10 < 0 ? py + 14 : py - high - 10}px`;
    svg.querySelector(".mark")?.remove();
    shape(svg, "circle", { class: "mark", cx: point.px, cy: point.py, r: 7, fill: "none", stroke: "var(--ink)", "stroke-width": 1.5 });
  }

  function hide() {
    current = -1;
    tip.hidden = true;
    svg.querySelector(".mark")?.remove();
  }

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const ratio = svg.viewBox.baseVal.width / box.width;
    const [px, py] = [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
    let [best, least] = [-1, 40 ** 2];
    points.forEach((point, place) => {
      const far = (point.px - px) ** 2 + (point.py - py) ** 2;
      if (far < least) [best, least] = [place, far];
    });
    if (best < 0) hide(); else if (best !== current) show(best);
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hide();
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step || !points.length) return;
    event.preventDefault();
    show(current < 0 ? (step > 0 ? 0 : points.length - 1) : (current + step + points.length) % points.length);
  });
  watch(holder, draw);
  draw();
}

// Horizontal bars in parts. `rows`: [{label, parts: [{value, color, name}]}], all to one scale.
function bars(parent, options) {
  const holder = element("div", { class: "plot" });
  holder.figure = options;
  if (options.heading) holder.append(element("h3", {}, options.heading));
  const svg = document.createElementNS(SVG, "svg");
  const said = options.rows.map((row) => `${row.label}: ${row.parts.map((part) => `${part.text} ${part.name}`).join(", ")}`).join("; ");
  for (const [name, value] of Object.entries({ role: "img", "aria-label": `${options.title}. ${said}` })) svg.setAttribute(name, value);
  holder.append(svg);
  parent.append(holder);
  function draw() {
    const width = Math.max(260, holder.clientWidth), left = options.left || 92, line = 26;
    const height = options.rows.length * line + 8;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    const most = options.most;
    options.rows.forEach((row, place) => {
      const top = 4 + place * line;
      shape(svg, "text", { class: "name", x: left - 8, y: top + 15, "text-anchor": "end" }, row.label);
      let from = left;
      for (const part of row.parts) {
        const wide = (part.value / most) * (width - left - 4);
        const bar = shape(svg, "rect", { x: from, y: top + 2, width: Math.max(0, wide - 1), height: line - 8, fill: part.color, opacity: 0.85 });
        shape(bar, "title", {}, `${row.label}: ${part.text} ${part.name}`);
        if (wide > 8 * part.text.length) shape(svg, "text", { x: from + wide / 2, y: top + 15, "text-anchor": "middle", style: "fill: var(--paper); font-weight: 600" }, part.text);
        from += wide;
      }
    });
  }
  watch(holder, draw);
  draw();
}
