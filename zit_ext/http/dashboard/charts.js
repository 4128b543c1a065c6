// Charts in SVG, drawn for the width that they have. Each takes numbers and draws them; what they mean is told
// by the captions around them, and aloud by their labels.

import { h, replace, svg } from "./dom.js";
import { OUTCOMES, binEdges, rate } from "./reckoning.js";
import { duration, number, percent, t, tick } from "./words.js";

/** Return an element that draws itself anew whenever its width changes. `draw(width)` returns SVG. */
export function drawn(name, draw) {
  const place = h("div", { class: `chart ${name}` });
  let width = 0;
  const again = () => width && replace(place, draw(width));
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now && now !== width) {
      width = now;
      again();
    }
  }).observe(place);
  place.again = again;
  return place;
}

/** Return a smooth path through points with rising x; it never overshoots. */
export function curve(points) {
  if (!points.length) return "";
  let path = `M${points[0][0]},${points[0][1]}`;
  for (let i = 1; i < points.length; i += 1) {
    const [x0, y0] = points[i - 1];
    const [x1, y1] = points[i];
    const middle = (x0 + x1) / 2;
    path += `C${middle},${y0} ${middle},${y1} ${x1},${y1}`;
  }
  return path;
}

/** Return a small filled line without axes, over its whole place. */
export function spark(values, height = 56) {
  return drawn("spark", (width) => {
    const most = Math.max(...values, 1e-9);
    const points = values.map((value, place) => [
      (place / Math.max(1, values.length - 1)) * width,
      height - 3 - (value / most) * (height - 8),
    ]);
    const line = curve(points);
    return svg(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
      svg("path", { d: `${line}L${width},${height}L0,${height}Z`, class: "spark-area" }),
      svg("path", { d: line, class: "spark-line" }),
    );
  });
}

/** Return a ring that is filled to this share. */
export function ring(share, size = 132) {
  const radius = size / 2 - 9;
  const around = 2 * Math.PI * radius;
  const circle = (className, dash) =>
    svg("circle", { cx: size / 2, cy: size / 2, r: radius, class: className, "stroke-dasharray": dash, pathLength: null });
  return svg(
    "svg",
    { width: size, height: size, viewBox: `0 0 ${size} ${size}`, class: "ring", "aria-hidden": "true" },
    circle("ring-rest", null),
    share ? circle("ring-part", `${around * share} ${around}`) : null,
  );
}

/** Return requests over time as stacked bars, with the hit rate above them; a cursor reads them out. */
export function timeline(made, readout) {
  const gutter = 38;
  const rateHeight = 64;
  const barsTop = 92;
  const barsHeight = 132;
  const height = barsTop + barsHeight + 24;
  const span = made.length * made[0].length;
  const total = (each) => OUTCOMES.reduce((sum, name) => sum + each[name], 0);
  const most = niceMost(Math.max(1, ...made.map(total)));
  const rates = made.map(rate);
  let chosen = null;

  const chart = drawn("timeline", (width) => {
    const step = (width - gutter) / made.length;
    const x = (place) => gutter + place * step;
    const scale = (count) => (count / most) * barsHeight;
    const rateY = (share) => 8 + (1 - share) * (rateHeight - 8);
    const bars = made.map((each, place) => {
      let top = barsTop + barsHeight;
      const pieces = OUTCOMES.filter((name) => each[name]).map((name) => {
        const tall = Math.max(1, scale(each[name]));
        top -= tall;
        return svg("rect", { x: x(place) + step * 0.12, y: top, width: Math.max(1, step * 0.76), height: tall, rx: Math.min(2, step / 6), class: `fill-${name}` });
      });
      return svg("g", {}, pieces);
    });
    const points = rates.map((share, place) => (share === null ? null : [x(place) + step / 2, rateY(share)]));
    const known = points.filter(Boolean);
    const whole = runs(points.map(Boolean)).map(([from, to]) => points.slice(from, to));
    const lines = [0, 0.5, 1].map((share) => [
      svg("line", { x1: gutter, x2: width, y1: rateY(share), y2: rateY(share), class: "grid-line" }),
      svg("text", { x: gutter - 8, y: rateY(share) + 4, class: "axis-text end" }, percent(share)),
    ]);
    const counts = [0, most / 2, most].map((count) => [
      svg("line", { x1: gutter, x2: width, y1: barsTop + barsHeight - scale(count), y2: barsTop + barsHeight - scale(count), class: "grid-line" }),
      Number.isInteger(count) &&
        svg("text", { x: gutter - 8, y: barsTop + barsHeight - scale(count) + 4, class: "axis-text end" }, number(count)),
    ]);
    const marks = marksOf(made, span, Math.max(2, Math.floor(width / 90))).map((place) =>
      svg("text", { x: x(place) + (span > 172800 ? step / 2 : 0), y: height - 5, class: "axis-text middle" }, tick(made[place].at, span)),
    );
    const cursor = svg("rect", { y: 0, width: step, height: barsTop + barsHeight, class: "cursor", rx: 3 });
    const point = (place) => {
      chosen = place;
      cursor.classList.toggle("on", place !== null);
      if (place !== null) cursor.setAttribute("x", x(place));
      readout(place === null ? null : made[place]);
    };
    if (chosen !== null) cursor.classList.add("on"), cursor.setAttribute("x", x(chosen));
    const move = (event) => {
      const left = event.currentTarget.getBoundingClientRect().left;
      const place = Math.floor((event.clientX - left - gutter) / step);
      point(place >= 0 && place < made.length ? place : null);
    };
    const key = (event) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (way) {
        event.preventDefault();
        point(Math.min(made.length - 1, Math.max(0, (chosen ?? (way > 0 ? -1 : made.length)) + way)));
      } else if (event.key === "Escape") point(null);
    };
    return svg(
      "svg",
      {
        width, height, viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: "0", "aria-label": t("chart.timeline"),
        onpointermove: move, onpointerdown: move, onpointerleave: () => point(null), onkeydown: key, onblur: () => point(null),
      },
      lines, counts, cursor, bars,
      svg("path", { d: curve(known), class: "rate-between" }),
      whole.map((part) =>
        part.length > 1
          ? [
              svg("path", { d: `${curve(part)}L${part.at(-1)[0]},${rateHeight}L${part[0][0]},${rateHeight}Z`, class: "rate-area" }),
              svg("path", { d: curve(part), class: "rate-line" }),
            ]
          : svg("circle", { cx: part[0][0], cy: part[0][1], r: 3, class: "rate-dot" }),
      ),
      marks,
    );
  });
  return chart;
}

// Where a day begins, or every few hours; no more marks than there is room for.
function marksOf(made, span, room) {
  const unit = (each) => {
    const date = new Date(each.at * 1000);
    return span > 172800 ? date.toDateString() : `${date.toDateString()} ${Math.floor(date.getHours() / 3)}`;
  };
  const places = made.map((_, place) => place).filter((place) => place > 0 && unit(made[place]) !== unit(made[place - 1]));
  const every = Math.ceil(places.length / room);
  return places.filter((_, at) => at % every === 0);
}

function niceMost(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  const nice = [1, 2, 4, 6, 8, 10].find((each) => each * power >= value) * power;
  return Math.max(2, nice);
}

/** Return how long hits and misses took: one axis of times, each kind with hills of its own. */
export function latencies(kinds) {
  const height = 150;
  const base = height - 24;
  return drawn("latencies", (width) => {
    const used = kinds.filter((kind) => kind.counts.some(Boolean));
    const bins = used.flatMap((kind) =>
      kind.counts.map((count, place) => ({ kind, count, edges: binEdges(kind.edges, place) })).filter((bin) => bin.count),
    );
    const low = Math.min(0.001, ...bins.map((bin) => bin.edges[0]));
    const high = Math.max(10, ...bins.map((bin) => bin.edges[1]));
    const x = (seconds) => (Math.log(seconds / low) / Math.log(high / low)) * width;
    const most = new Map(used.map((kind) => [kind, Math.max(...kind.counts)]));
    const decades = [];
    for (let at = 10 ** Math.ceil(Math.log10(low)); at <= high * 1.001; at *= 10) decades.push(at);
    const sparse = width < 420 ? decades.filter((_, place) => place % 2 === 0) : decades;
    return svg(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": t("chart.latencies") },
      decades.map((at) => svg("line", { x1: x(at), x2: x(at), y1: 4, y2: base, class: "grid-line" })),
      bins.map((bin) => {
        const [from, to] = bin.edges.map(x);
        const tall = 4 + (bin.count / most.get(bin.kind)) * (base - 16);
        const label = `${duration(bin.edges[0])} – ${duration(bin.edges[1])}: ${number(bin.count)}`;
        return svg("rect", { x: from + 1, y: base - tall, width: Math.max(2, to - from - 2), height: tall, rx: 3, class: `fill-${bin.kind.name} hill` }, svg("title", {}, label));
      }),
      svg("line", { x1: 0, x2: width, y1: base, y2: base, class: "base-line" }),
      sparse.map((at) => {
        const place = x(at);
        const side = place < 16 ? "" : place > width - 24 ? "end" : "middle";
        return svg("text", { x: place, y: height - 6, class: `axis-text ${side}` }, duration(at));
      }),
    );
  });
}

/** Return shares as one bar of pieces. */
export function shares(pieces) {
  const total = pieces.reduce((sum, piece) => sum + piece.count, 0);
  return drawn("shares", (width) => {
    const height = 14;
    let x = 0;
    return svg(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
      pieces.filter((piece) => piece.count).map((piece) => {
        const wide = Math.max(3, (piece.count / total) * width);
        const rect = svg("rect", { x, y: 0, width: Math.max(1, wide - 2), height, rx: 4, class: `fill-${piece.name}` });
        x += wide;
        return rect;
      }),
    );
  });
}

/** Return how full something is, as a bar with a name. */
export function meter(label, share, className = "") {
  const full = Math.min(1, Math.max(0, share));
  return drawn(`meter ${className}`, (width) =>
    svg(
      "svg",
      { width, height: 10, viewBox: `0 0 ${width} 10`, role: "img", "aria-label": `${label}: ${percent(full)}` },
      svg("rect", { width, height: 10, rx: 5, class: "meter-rest" }),
      full > 0 && svg("rect", { width: Math.max(10, width * full), height: 10, rx: 5, class: full > 0.95 && className === "" ? "meter-part full" : "meter-part" }),
    ),
  );
}

/** Return which weights were resident when: one line for each, filled where it was. */
export function residence(made) {
  const names = [...new Set(made.flatMap((each) => [...each.models]))];
  const span = made.length * made[0].length;
  return h(
    "div",
    { class: "residence" },
    names.map((name) =>
      h(
        "div",
        { class: "residence-row" },
        h("span", { class: "residence-name", title: name }, name),
        drawn("strip", (width) =>
          svg(
            "svg",
            { width, height: 16, viewBox: `0 0 ${width} 16`, role: "img", "aria-label": t("chart.residence", { name }) },
            svg("rect", { y: 3, width, height: 10, rx: 5, class: "meter-rest" }),
            runs(made.map((each) => each.models.has(name))).map(([from, to]) =>
              svg(
                "rect",
                { x: (from / made.length) * width, y: 3, width: Math.max(4, ((to - from) / made.length) * width), height: 10, rx: 5, class: "fill-resident" },
                svg("title", {}, `${tick(made[from].at, span)} – ${tick(made[to - 1].at + made[0].length, span)}`),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

function runs(flags) {
  const found = [];
  flags.forEach((flag, place) => {
    if (flag && (place === 0 || !flags[place - 1])) found.push([place, place + 1]);
    else if (flag) found.at(-1)[1] = place + 1;
  });
  return found;
}
