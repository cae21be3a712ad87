// Each figure as a file: SVG as it is shown, with its headings and legend; CSV of all that it is drawn from.

function downloads(figure) {
  const caption = figure.querySelector("figcaption");
  const title = `${figure.closest("section").querySelector("h2").textContent} ${caption.textContent}`;
  const name = title.toLowerCase().replace(/[^a-z0-9.]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 80);
  const box = element("span", { class: "save" });
  for (const [label, kind, make] of [["SVG", "image/svg+xml", () => svgOf(figure)], ["CSV", "text/csv", () => csvOf(figure)]]) {
    const button = element("button", { type: "button", "aria-label": `Download ${caption.textContent} as ${label}` }, label);
    button.onclick = () => handOver(`${name}.${label.toLowerCase()}`, kind, make());
    box.append(button);
  }
  caption.append(box);
}

function handOver(name, kind, text) {
  const address = URL.createObjectURL(new Blob([text], { type: `${kind};charset=utf-8` }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

const panelsOf = (figure) => [...figure.querySelectorAll(".plot")];

function csvOf(figure) {
  const panels = panelsOf(figure);
  const rows = [];
  for (const { figure: panel } of panels) {
    const before = panels.length > 1 ? [panel.heading || panel.title] : [];
    if (panel.counts) {
      rows.push(["class", "answer", "samples"]);
      panel.counts.forEach((row, truth) => row.forEach((count, answer) => rows.push([panel.names[truth], panel.names[answer], count])));
      continue;
    }
    if (panel.rows) {
      if (!rows.length) rows.push([...(before.length ? ["panel"] : []), "network", "part", "value"]);
      for (const row of panel.rows) for (const part of row.parts) rows.push([...before, row.label, part.name, part.value]);
      continue;
    }
    if (!rows.length) rows.push([...(before.length ? ["panel"] : []), "series", panel.x.label, panel.y.label, "low", "high"]);
    for (const one of panel.series)
      for (const point of one.points) {
        if (point.y !== null) rows.push([...before, one.name, point.x ?? "", point.y, point.low ?? "", point.high ?? ""]);
        for (const [seed, value] of point.seeds || []) rows.push([...before, `${one.name}, seed ${seed}`, point.x ?? "", value, "", ""]);
      }
  }
  // What was multiplied for a unit has digits that mean nothing.
  const short = (value) => (typeof value === "number" ? String(Number(value.toPrecision(12))) : String(value));
  const cell = (value) => (/[",\r\n]/.test(short(value)) ? `"${short(value).replaceAll('"', '""')}"` : short(value));
  return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

// Colours in the numbers that every program reads, whatever the page has them in.
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
function plainColor(text) {
  if (!text || text === "none") return "none";
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = text;
  canvas.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
  return alpha ? `#${[red, green, blue].map((part) => part.toString(16).padStart(2, "0")).join("")}` : "none";
}

// Write what style sheets say into the elements themselves: the file has no style sheet.
function styled(from, to) {
  const style = getComputedStyle(from);
  for (const name of ["fill", "stroke"]) {
    const painted = plainColor(style[name]);
    if (name === "fill" || painted !== "none") to.setAttribute(name, painted);
  }
  if (to.getAttribute("stroke")) {
    to.setAttribute("stroke-width", parseFloat(style.strokeWidth));
    if (style.strokeDasharray !== "none") to.setAttribute("stroke-dasharray", style.strokeDasharray.replaceAll("px", ""));
    else to.removeAttribute("stroke-dasharray");
  }
  if (style.opacity !== "1") to.setAttribute("opacity", style.opacity);
  if (from.tagName === "text") {
    to.setAttribute("font-size", parseFloat(style.fontSize));
    if (Number(style.fontWeight) > 500) to.setAttribute("font-weight", style.fontWeight);
  }
  for (const name of ["class", "style", "data-series"]) to.removeAttribute(name);
  [...from.children].forEach((child, place) => styled(child, to.children[place]));
}

function svgOf(figure) {
  // For paper: black on white, whatever the screen has.
  document.documentElement.classList.add("paper");
  try {
    return drawnWhole(figure);
  } finally {
    document.documentElement.classList.remove("paper");
  }
}

function drawnWhole(figure) {
  const plots = figure.querySelector(".plots");
  const width = plots.clientWidth, gap = 16;
  const whole = document.createElementNS(SVG, "svg");
  const write = (x, y, text, more = {}) => shape(whole, "text", { x, y, "font-size": 13, fill: "#000000", ...more }, text);
  let y = 0;
  if (plots.shared) y += legendIn(whole, plots.shared, 0, y, width) + gap;
  const rows = new Map();
  for (const holder of panelsOf(figure)) {
    const top = Math.round(holder.getBoundingClientRect().top);
    rows.set(top, [...(rows.get(top) || []), holder]);
  }
  for (const row of rows.values()) {
    let tallest = 0;
    for (const holder of row) {
      const { figure: panel } = holder;
      const x = holder.getBoundingClientRect().left - plots.getBoundingClientRect().left;
      let high = 0;
      if (panel.heading) { high += 18; write(x, y + 13, panel.heading, { "font-weight": 600 }); }
      if (panel.series && panel.legend !== false && panel.series.length > 1) high += legendIn(whole, panel.series, x, y + high, holder.clientWidth);
      const drawing = holder.querySelector("svg[role=img]");
      const box = drawing.viewBox.baseVal;
      const group = shape(whole, "g", { transform: `translate(${x} ${y + high})` });
      for (const child of drawing.children) {
        if (child.classList.contains("mark")) continue;
        const copy = child.cloneNode(true);
        group.append(copy);
        styled(child, copy);
      }
      tallest = Math.max(tallest, high + box.height);
    }
    y += tallest + gap;
  }
  for (const text of figure.querySelectorAll(".controls > .aside, .plots > .aside")) {
    for (const line of wrapped(text.textContent, width / 6.2)) { y += 15; write(0, y, line, { "font-size": 11, fill: "#444444" }); }
    y += 6;
  }
  const shownHeight = Math.ceil(y + 4);
  for (const [name, value] of Object.entries({ viewBox: `0 0 ${width} ${shownHeight}`, width, height: shownHeight, "font-family": "Helvetica, Arial, sans-serif" })) whole.setAttribute(name, value);
  whole.prepend(Object.assign(document.createElementNS(SVG, "title"), { textContent: figure.querySelector("figcaption").firstChild.textContent }));
  const paper = document.createElementNS(SVG, "rect");
  for (const [name, value] of Object.entries({ width: "100%", height: "100%", fill: "#ffffff" })) paper.setAttribute(name, value);
  whole.firstChild.after(paper);
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(whole)}\n`;
}

// Draw the series that are shown, in lines; return the height.
function legendIn(whole, series, x, y, width) {
  let [left, line] = [x, 0];
  const probe = document.body.appendChild(element("i"));
  for (const one of series.filter((each) => !each.hidden)) {
    const wide = 34 + 6.6 * one.name.length;
    if (left > x && left + wide > x + width) { left = x; line += 1; }
    probe.style.color = one.color;
    const paint = plainColor(getComputedStyle(probe).color);
    const middle = y + 18 * line + 9;
    if (one.kind !== "points") shape(whole, "line", { x1: left, x2: left + 22, y1: middle, y2: middle, stroke: paint, "stroke-width": 2, ...(one.dash ? { "stroke-dasharray": one.dash } : {}) });
    if (one.kind !== "band" && one.marker) shape(whole, "circle", { cx: left + 11, cy: middle, r: 3.5, stroke: paint, "stroke-width": 1.5, fill: one.hollow ? "#ffffff" : paint });
    shape(whole, "text", { x: left + 27, y: middle + 4, "font-size": 12, fill: "#000000" }, one.name);
    left += wide;
  }
  probe.remove();
  return 18 * (line + 1) + 4;
}

function wrapped(text, most) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines[lines.length - 1].length + word.length >= most) lines.push("");
    lines[lines.length - 1] += (lines[lines.length - 1] ? " " : "") + word;
  }
  return lines;
}
