// The first view: what the cache saved, how often it hit, what happens now, and a place to try it.

import { answerRow } from "./answers.js";
import { drawn, latencies, meter, residence, ring, shares, spark, timeline } from "./charts.js";
import { fact, h, replace, svg } from "./dom.js";
import { empty } from "./notices.js";
import { makingForm } from "./making.js";
import { heldModels } from "./models.js";
import { runningList } from "./queue.js";
import { may, on, state, WEEK, wantHistory } from "./live.js";
import { OUTCOMES, median, rate, spans, sums } from "./reckoning.js";
import { bytes, duration, either, number, percent, remember, remembered, t, tick } from "./words.js";

const RANGES = [
  [24, 48],
  [WEEK, 56],
  [720, 30],
];
const COMPARISONS = [
  [20, "breath"],
  [150, "song"],
  [600, "tea"],
  [2400, "coffee"],
  [5400, "walk"],
  [14400, "film"],
  [36000, "sleep"],
  [172800, "weekend"],
  [Infinity, "holiday"],
];
const REASONS_SHOWN = 6;

/** Return the overview; it keeps itself up to date until the signal. */
export function overview(signal) {
  const heroes = h("div", { class: "heroes" });
  const charts = chartCard(signal);
  const outcomes = h("section", { class: "card" });
  const times = h("section", { class: "card" });
  const store = h("section", { class: "card" });
  const resident = h("section", { class: "card" });
  const answers = h("section", { class: "card latest" });
  const running = h("section", { class: "card" }, h("h2", {}, t("queue.title")), runningList(signal));

  const drawHistory = () => {
    const week = state.histories.get(WEEK);
    replace(heroes, savedHero(week), rateHero(week), speedHero(week));
    replace(outcomes, h("h2", {}, t("outcomes.title")), outcomePart(week));
    replace(times, h("h2", {}, t("times.title")), timesPart(week));
    drawStore();
    drawResident();
  };
  const drawStore = () => replace(store, h("h2", {}, t("store.title")), storePart());
  const drawResident = () => replace(resident, h("h2", {}, t("models.title")), heldModels(3), residencePart(), link("#/models", t("models.all")));
  const drawAnswers = () =>
    replace(answers, h("h2", {}, t("answers.title")), latestPart(), state.answers.length > 0 && link("#/answers", t("answers.all")));

  on("history", signal, drawHistory);
  on("stats", signal, drawStore);
  on("models", signal, drawResident);
  on("answers", signal, drawAnswers);
  drawHistory();
  drawAnswers();

  return h(
    "div",
    { class: "overview" },
    heroes,
    h(
      "div",
      { class: "columns" },
      h("div", { class: "column wide" }, charts, h("div", { class: "pair" }, outcomes, times), h("div", { class: "pair" }, store, resident)),
      h("div", { class: "column" }, may("generate") && makingForm(signal), running, answers),
    ),
  );
}

const link = (to, words) => h("a", { class: "more", href: to }, words, " →");

// The heroes

function savedHero(week) {
  const all = sums(week);
  const saved = all.saved_seconds;
  const ever = week?.totals?.saved_seconds ?? state.stats?.store.saved_seconds ?? 0;
  const curve = spans(week, WEEK, 56).map((each) => each.saved_seconds);
  const named = COMPARISONS.find(([most]) => saved < most)[1];
  return h(
    "section",
    { class: "hero hero-saved" },
    h("h2", {}, t("saved.title")),
    h("p", { class: "hero-figure", "data-test": "saved" }, duration(saved)),
    h("p", { class: "hero-words" }, saved ? `${t("saved.week")} · ${t(`saved.like.${named}`)}` : t("saved.none")),
    ever > saved * 1.01 && h("p", { class: "hero-more" }, t("saved.ever", { time: duration(ever) })),
    curve.filter(Boolean).length > 1 && spark(summed(curve), 64),
  );
}

function summed(values) {
  let sum = 0;
  return values.map((value) => (sum += value));
}

function rateHero(week) {
  const all = sums(week);
  const share = rate(all);
  const looked = all.hit + all.miss + all.collapsed;
  return h(
    "section",
    { class: "hero hero-rate" },
    h(
      "div",
      {},
      h("h2", {}, t("rate.title")),
      h("p", { class: "hero-figure", "data-test": "rate" }, share === null ? "–" : percent(share)),
      h("p", { class: "hero-words" }, looked ? t("rate.of", { hits: number(all.hit), raw: looked, n: number(looked) }) : t("rate.none")),
    ),
    ring(share),
  );
}

function speedHero(week) {
  const all = sums(week);
  const hit = median(all.latencies.hit, week?.bins?.hit ?? [1]);
  const miss = median(all.latencies.miss, week?.bins?.miss ?? [1]);
  const times = hit && miss ? miss / hit : null;
  const bar = (name, seconds) =>
    h(
      "div",
      { class: `race-row race-${name}` },
      h("span", { class: "race-name" }, t(`outcome.${name}`)),
      drawn("race", (width) => raceBar(width, seconds, miss, name)),
      h("span", { class: "race-time" }, seconds === null ? "–" : duration(seconds)),
    );
  return h(
    "section",
    { class: "hero hero-speed" },
    h("h2", {}, t("speed.title")),
    h("p", { class: "hero-figure" }, times === null ? "–" : t("speed.times", { n: number(times, times < 10 ? 1 : 0) })),
    h("p", { class: "hero-words" }, times === null ? t("speed.none") : t("speed.words")),
    h("div", { class: "racing" }, bar("hit", hit), bar("miss", miss)),
  );
}

function raceBar(width, seconds, most, name) {
  const wide = seconds && most ? Math.min(width, Math.max(6, (seconds / most) * width)) : 0;
  return svg(
    "svg",
    { width, height: 8, viewBox: `0 0 ${width} 8`, "aria-hidden": "true" },
    svg("rect", { width, height: 8, rx: 4, class: "meter-rest" }),
    wide > 0 && svg("rect", { width: wide, height: 8, rx: 4, class: `fill-${name}` }),
  );
}

// Requests over time

function chartCard(signal) {
  let hours = Number(remembered("hours")) || WEEK;
  if (!RANGES.some(([each]) => each === hours)) hours = WEEK;
  const place = h("div", {});
  const readout = h("p", { class: "readout", "aria-live": "polite" });
  const buttons = RANGES.map(([each]) =>
    h("button", { type: "button", class: "segment", "aria-pressed": String(each === hours), onclick: () => choose(each) }, t(`range.${each}`)),
  );

  const read = (span) => {
    if (span === null) return replace(readout, legend());
    const words = OUTCOMES.filter((name) => span[name]).map((name) => h("span", { class: `key key-${name}` }, `${t(`outcome.${name}`)} ${number(span[name])}`));
    const share = rate(span);
    return replace(
      readout,
      h("strong", {}, `${tick(span.at, hours > WEEK ? 1e9 : 0)}${hours === WEEK ? `, ${tick(span.at, 1e9)}` : ""}`),
      words.length ? words : t("chart.quiet"),
      share !== null && h("span", {}, t("chart.rate", { rate: percent(share) })),
      span.saved_seconds > 0 && h("span", {}, t("chart.saved", { time: duration(span.saved_seconds) })),
    );
  };
  const draw = () => {
    if (place.contains(document.activeElement) || place.matches(":hover")) return;
    const history = state.histories.get(hours);
    const made = spans(history, hours, RANGES.find(([each]) => each === hours)[1]);
    if (made.some((each) => each.hit + each.miss + each.bypass)) replace(place, timeline(made, read));
    else replace(place, empty("bolt", t("chart.empty"), t("chart.emptyDo")));
    read(null);
  };
  const choose = async (each) => {
    hours = each;
    remember("hours", each);
    RANGES.forEach(([range], at) => buttons[at].setAttribute("aria-pressed", String(range === hours)));
    await wantHistory(hours);
    draw();
  };
  on("history", signal, draw);
  wantHistory(hours);
  draw();
  return h(
    "section",
    { class: "card" },
    h("div", { class: "card-head" }, h("h2", {}, t("chart.title")), h("div", { class: "segments", role: "group", "aria-label": t("chart.range") }, buttons)),
    place,
    readout,
  );
}

const legend = () => OUTCOMES.map((name) => h("span", { class: `key key-${name}`, title: t(`outcome.${name}.what`) }, t(`outcome.${name}`)));

// Outcomes and reasons

function outcomePart(week) {
  const all = sums(week);
  const total = OUTCOMES.reduce((sum, name) => sum + all[name], 0);
  if (!total) return empty("scale", t("outcomes.empty"), t("outcomes.emptyDo"));
  const reasons = Object.entries(all.reasons).sort((one, other) => other[1] - one[1]);
  const most = reasons[0]?.[1] ?? 1;
  return [
    shares(OUTCOMES.map((name) => ({ name, count: all[name] }))),
    h(
      "ul",
      { class: "outcome-list" },
      OUTCOMES.map((name) => h("li", { title: t(`outcome.${name}.what`) }, h("span", { class: `key key-${name}` }, t(`outcome.${name}`)), h("b", {}, number(all[name])), h("span", { class: "soft" }, percent(all[name] / total)))),
    ),
    reasons.length > 0 && h("h3", {}, t("reasons.title")),
    h(
      "ul",
      { class: "reasons" },
      reasons.slice(0, REASONS_SHOWN).map(([name, count]) => h("li", {}, h("span", { class: "reason-name" }, either(`reason.${name}`, name)), meter(name, count / most, "thin"), h("b", {}, number(count)))),
    ),
  ];
}

function timesPart(week) {
  const all = sums(week);
  if (![...all.latencies.hit, ...all.latencies.miss].some(Boolean)) return empty("bolt", t("times.empty"), t("times.emptyDo"));
  const kinds = ["hit", "miss"].map((name) => ({ name, counts: all.latencies[name], edges: week.bins[name] }));
  return [
    latencies(kinds),
    h(
      "p",
      { class: "readout" },
      kinds.map((kind) => {
        const middle = median(kind.counts, kind.edges);
        return middle !== null && h("span", { class: `key key-${kind.name}` }, t("times.median", { outcome: t(`outcome.${kind.name}`), time: duration(middle) }));
      }),
    ),
    (all.render_seconds > 0 || all.load_seconds > 0) && h("p", { class: "soft small" }, t("times.work", { render: duration(all.render_seconds), load: duration(all.load_seconds) })),
  ];
}

// The store, and what is resident

function storePart() {
  const store = state.stats?.store;
  if (!store) return h("p", { class: "soft" }, t("store.unknown"));
  const line = (label, value, most, shown) =>
    h(
      "div",
      { class: "gauge" },
      h("div", { class: "gauge-line" }, h("span", {}, label), h("span", {}, h("b", {}, shown(value)), most ? ` ${t("store.of", { most: shown(most) })}` : ` ${t("store.unlimited")}`)),
      most ? meter(label, value / most) : null,
    );
  return [
    line(t("store.bytes"), store.bytes, store.max_bytes, bytes),
    line(t("store.entries"), store.entries, store.max_entries, (value) => number(value)),
    h(
      "dl",
      { class: "facts" },
      fact(t("store.pinned"), number(store.pinned)),
      fact(t("store.stale"), number(store.stale)),
      fact(t("store.hits"), number(store.hits)),
      fact(t("store.quarantined"), number(store.quarantined)),
    ),
    link("#/gallery", t("gallery.open")),
  ];
}

function residencePart() {
  const made = spans(state.histories.get(WEEK), WEEK, 84);
  return made.some((each) => each.models.size) && [h("h3", {}, t("models.week")), residence(made)];
}

function latestPart() {
  if (!state.answers.length) return empty("brush", t("answers.empty"), t("answers.emptyDo"));
  return h("ol", { class: "answer-list", role: "list" }, state.answers.slice(0, 7).map((answer) => answerRow(answer)));
}
