// "Why did this miss?": the latest answers, and for each of them what it differs in from what was stored.

import { get, isPicture, thumbnail } from "./asking.js";
import { fact, h, icon, replace } from "./dom.js";
import { nameOf, on, state } from "./live.js";
import { empty } from "./notices.js";
import { comparison } from "./fields.js";
import { go } from "./route.js";
import { ago, duration, either, moment, t } from "./words.js";

const KINDS = ["", "miss", "hit", "bypass", "collapsed"];

/** Return the name under which an answer is coloured and counted. */
export const kindOf = (answer) => (answer.collapsed ? "collapsed" : answer.outcome);

export function badge(kind, words = t(`outcome.${kind}`)) {
  return h("span", { class: `badge badge-${kind}` }, words);
}

/** Return why an answer is no hit, in words. */
export function reasonWords(answer) {
  if (answer.outcome === "hit") return t(`tier.${answer.tier}`);
  if (answer.collapsed) return t("outcome.collapsed.what");
  return answer.reason ? either(`reason.${answer.reason}`, answer.detail ?? answer.reason) : (answer.detail ?? "");
}

/** Return one answer as a line of a list that leads to its reasons. */
export function answerRow(answer, current = false) {
  const kind = kindOf(answer);
  const fresh = Date.now() / 1000 - answer.at < 3;
  return h(
    "li",
    { class: fresh ? "fresh" : null },
    h(
      "a",
      { class: "answer", href: `#/answers/${nameOf(answer)}`, "aria-current": current ? "true" : null, "data-outcome": kind },
      badge(kind),
      h("span", { class: "answer-prompt" }, answer.prompt || h("i", {}, t("prompt.hidden"))),
      h("span", { class: "answer-time" }, duration(answer.seconds)),
      h("span", { class: "answer-why" }, reasonWords(answer), " · ", ago(answer.at)),
    ),
  );
}

/** Return the list of answers, and beside it the reasons of the one that is chosen. */
export function answersView(signal, [number] = []) {
  const list = h("ol", { class: "answer-list", role: "list" });
  const why = h("section", { class: "card why", "aria-live": "polite" });
  let only = "";
  const filters = KINDS.map((kind) =>
    h("button", { type: "button", class: "segment", "aria-pressed": String(kind === only), onclick: () => choose(kind) }, kind ? t(`outcome.${kind}`) : t("answers.everything")),
  );
  const draw = () => {
    const shown = state.answers.filter((answer) => !only || kindOf(answer) === only);
    const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    if (shown.length) replace(list, shown.map((answer) => answerRow(answer, nameOf(answer) === number)));
    else replace(list, h("li", {}, state.answers.length ? h("p", { class: "soft pad" }, t("answers.noneLikeThat")) : empty("brush", t("answers.empty"), t("answers.emptyDo"))));
    if (focused) list.querySelector(`a[href="${focused}"]`)?.focus();
  };
  const choose = (kind) => {
    only = kind;
    filters.forEach((button, at) => button.setAttribute("aria-pressed", String(KINDS[at] === kind)));
    draw();
  };
  on("answers", signal, draw);
  on("minute", signal, draw);
  draw();
  showWhy(why, state.answers.find((answer) => nameOf(answer) === number), number, signal);
  return h(
    "div",
    { class: number ? "answers chosen" : "answers" },
    h("section", { class: "card answers-all" }, h("div", { class: "segments", role: "group", "aria-label": t("answers.filter") }, filters), list),
    why,
  );
}

async function showWhy(place, answer, number, signal) {
  if (!answer) {
    const words = number ? t("why.gone") : t("why.choose");
    return replace(place, empty("search", words, t("why.chooseDo")));
  }
  const kind = kindOf(answer);
  const rest = h("div", { class: "why-rest" });
  replace(
    place,
    h("a", { class: "more back", href: "#/answers" }, icon("back"), t("answers.back")),
    h("h2", {}, t(`why.${kind}`)),
    h("p", { class: "why-prompt" }, answer.prompt || t("prompt.hidden")),
    h(
      "dl",
      { class: "facts" },
      [
        [t("field.outcome"), badge(kind)],
        [t("field.reason"), reasonWords(answer)],
        answer.detail && answer.detail !== reasonWords(answer) && [t("field.detail"), answer.detail],
        [t("field.seconds"), duration(answer.seconds)],
        answer.saved_seconds > 0 && [t("field.saved"), duration(answer.saved_seconds)],
        [t("field.model"), answer.model],
        [t("field.seed"), String(answer.seed)],
        [t("field.size"), `${answer.width} × ${answer.height}`],
        [t("field.at"), moment(answer.at)],
      ]
        .filter(Boolean)
        .map(([name, value]) => fact(name, value)),
    ),
    rest,
  );
  if (!answer.key) return replace(rest, h("p", { class: "note" }, t("why.noKey")));
  if (kind !== "miss") return replace(rest, entryLink(answer.key));
  replace(rest, h("p", { class: "soft" }, t("why.looking")));
  try {
    const { nearest } = await get(`v1/entries/${answer.key}/nearest?limit=3&older=true`, { signal });
    replace(rest, nearest.length ? [h("h3", {}, t("why.nearest")), nearestPart(nearest)] : h("p", { class: "note" }, t("why.first")), entryLink(answer.key));
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    replace(rest, h("p", { class: "note" }, error.status === 404 ? t("why.notStored") : error.message));
  }
  return undefined;
}

const entryLink = (key) => h("p", {}, h("a", { class: "more", href: `#/entry/${key}` }, t("entry.open"), " →"));

/** Return the entries that differ least from one, and for the one that is chosen the fields side by side. */
export function nearestPart(nearest) {
  const table = h("div", {});
  const tabs = nearest.map((each, at) =>
    h(
      "button",
      { type: "button", class: "near", "aria-pressed": String(at === 0), onclick: () => choose(at) },
      isPicture(each.entry) && h("img", { src: thumbnail(each.entry, 128), alt: "", loading: "lazy", width: 48, height: 48 }),
      h("span", {}, t("why.fields", { n: Object.keys(each.differences).length })),
    ),
  );
  const choose = (at) => {
    tabs.forEach((tab, place) => tab.setAttribute("aria-pressed", String(place === at)));
    const { entry, differences } = nearest[at];
    replace(
      table,
      comparison(differences, t("compare.this"), t("compare.that")),
      h("button", { type: "button", class: "quiet", onclick: () => go(`#/entry/${entry.key}`) }, t("entry.openOther")),
    );
  };
  choose(0);
  return [h("div", { class: "nears" }, tabs), table];
}
