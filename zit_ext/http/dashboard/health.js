// Whether everything is well: the server, the store, what renders, the plugins.

import { fact, h, replace } from "./dom.js";
import { may, on, state } from "./live.js";
import { empty } from "./notices.js";
import { ago, number, t } from "./words.js";

/** Return how the whole thing is, as one word to colour by: good, warn, bad or unknown. */
export function wellness() {
  const health = state.health;
  if (state.live === "lost") return "bad";
  if (!health) return "unknown";
  if (health.status !== "ok" || health.store !== "open") return "bad";
  if (health.renderer === "unreachable" || health.broken_plugins > 0 || plugins().some((each) => each.state === "broken")) return "warn";
  return "good";
}

const plugins = () => state.plugins?.plugins ?? [];

/** Return the view. */
export function healthView(signal) {
  const lights = h("section", { class: "card" });
  const list = h("section", { class: "card" });
  const counted = h("section", { class: "card" });
  const draw = () => {
    replace(lights, h("h2", {}, t("health.title")), h("ul", { class: "lights", role: "list" }, lightsOf()));
    replace(list, h("h2", {}, t("plugins.title")), pluginPart());
    replace(counted, h("h2", {}, t("events.title")), eventPart());
  };
  for (const name of ["health", "plugins", "models", "live", "stats"]) on(name, signal, draw);
  draw();
  return h("div", { class: "grid-two" }, h("div", { class: "column" }, lights, counted), list);
}

function light(kind, name, words) {
  return h("li", { class: "light" }, h("span", { class: `dot dot-${kind}`, "aria-hidden": "true" }), h("strong", {}, name), h("span", {}, words));
}

function lightsOf() {
  const { health, models, live } = state;
  const broken = plugins().filter((each) => each.state === "broken");
  const renderer = health?.renderer;
  return [
    health ? light(health.status === "ok" ? "good" : "warn", t("health.server"), t(health.status === "closing" ? "health.closing" : "health.answers")) : light("bad", t("health.server"), t("health.silent")),
    light(health?.store === "open" ? "good" : "bad", t("health.store"), [t(health?.store === "open" ? "health.storeOpen" : "health.storeShut"), health?.store_problem].filter(Boolean).join(": ")),
    renderer === "unreachable" || renderer === "asleep" ? light(renderer === "asleep" ? "unknown" : "bad", t("health.renderer"), t(`health.renderer.${renderer}`)) : light(started(models) ? "good" : "unknown", t("health.renderer"), started(models) ? t("health.device", { device: models.device }) : t("health.noDevice")),
    may("admin") && light(broken.length ? "warn" : "good", t("health.plugins"), broken.length ? t("health.broken", { names: broken.map((each) => each.name).join(", ") }) : t("health.pluginsFine", { n: plugins().length })),
    light(live === "stream" ? "good" : live === "lost" ? "bad" : "warn", t("health.live"), t(`live.${live}`)),
  ];
}

// Before the first render the device is what the settings say, which may be "auto".
const started = (models) => Boolean(models?.device && models.device !== "auto");

function pluginPart() {
  if (!may("admin")) return empty("bolt", t("plugins.notAllowed"), t("plugins.notAllowedDo"));
  if (!state.plugins) return h("p", { class: "soft" }, t("plugins.unknown"));
  const troubles = state.plugins.troubles;
  return [
    h(
      "ul",
      { class: "plugins", role: "list" },
      plugins().map((each) =>
        h(
          "li",
          {},
          h("div", { class: "held-head" }, h("strong", {}, each.name), h("span", { class: `badge badge-${{ on: "hit", broken: "bad", disabled: "bypass" }[each.state]}` }, t(`plugins.${each.state}`))),
          h("p", { class: "soft small" }, `${each.origin === "built in" ? t("plugins.builtIn") : each.origin} · ${each.hooks.map((hook) => hook.replace(/^zit_/, "")).join(", ") || t("plugins.noHooks")}`),
          each.broken && h("p", { class: "note bad" }, each.broken),
        ),
      ),
    ),
    troubles.length > 0 && [
      h("h3", {}, t("plugins.troubles")),
      h(
        "ul",
        { class: "plugins", role: "list" },
        troubles.slice(0, 20).map((each) =>
          h(
            "li",
            {},
            h("strong", {}, each.hook ? `${each.plugin} · ${each.hook.replace(/^zit_/, "")}` : each.plugin),
            h("p", { class: "note bad" }, each.words),
            h("p", { class: "soft small" }, `${t("plugins.times", { n: each.times })} · ${each.where} · ${ago(each.at)}`),
          ),
        ),
      ),
    ],
  ];
}

function eventPart() {
  const events = Object.entries(state.stats?.engine?.events ?? {}).filter(([, count]) => count);
  if (!events.length) return empty("check", t("events.empty"), t("events.emptyDo"));
  return h("dl", { class: "facts" }, events.sort(([, one], [, other]) => other - one).map(([name, count]) => fact(name.replaceAll("_", " "), number(count))));
}
