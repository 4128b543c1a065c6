// Starts the page: words, who we are, and the view that the address names.

import { answersView } from "./answers.js";
import { ask } from "./asking.js";
import { compareView } from "./chosen.js";
import { h, icon, replace } from "./dom.js";
import { entryView } from "./entry.js";
import { galleryView } from "./gallery.js";
import { healthView, wellness } from "./health.js";
import { on, start, state, stop } from "./live.js";
import { forgetForm } from "./making.js";
import { modelsView } from "./models.js";
import { empty, say } from "./notices.js";
import { overview } from "./overview.js";
import { place } from "./route.js";
import { signIn } from "./signin.js";
import { LANGUAGES, remember, speak, t, wantedLanguage } from "./words.js";

const VIEWS = {
  "": { title: "nav.overview", view: overview },
  gallery: { title: "nav.gallery", view: galleryView },
  answers: { title: "nav.answers", view: answersView },
  models: { title: "nav.models", view: modelsView },
  health: { title: "nav.health", view: healthView },
  entry: { title: "nav.entry", view: entryView, under: "gallery" },
  compare: { title: "nav.compare", view: compareView, under: "gallery" },
};
const THEMES = ["auto", "light", "dark"];

const app = document.getElementById("app");
let leaving = new AbortController();
let frame = new AbortController();
let language = wantedLanguage();
const scrolled = new Map();
let shown = null;

async function begin() {
  await speak(language);
  try {
    await start();
  } catch (error) {
    if (error.status === 401) return askToSignIn();
    replace(app, h("main", { class: "sign-in" }, h("div", { class: "card" }, empty("bolt", error.message, t("error.unreachableDo")), h("button", { type: "button", class: "main", onclick: begin }, t("again")))));
    return undefined;
  }
  drawFrame();
  return undefined;
}

function askToSignIn() {
  stop();
  leaving.abort();
  state.session = null;
  document.title = `${t("sign.title")} · zit_ext`;
  // Begun anew: what somebody else saw here is not kept for whoever signs in next.
  replace(app, signIn(() => location.reload()));
  app.querySelector("#token").focus();
}

// The frame around the views

function drawFrame() {
  frame.abort();
  frame = new AbortController();
  const light = h("a", { class: "wellness", href: "#/health" });
  const drawLight = () => {
    const kind = wellness();
    replace(light, h("span", { class: `dot dot-${kind}`, "aria-hidden": "true" }), h("span", { class: "wellness-words" }, t(`well.${kind}`)));
  };
  for (const name of ["health", "plugins", "live"]) on(name, frame.signal, drawLight);
  drawLight();
  const banner = h("div", { class: "banner", role: "status" });
  const drawBanner = () => {
    const words = new Set(state.troubles.values());
    replace(banner, [...words].map((each) => h("p", { class: "note bad" }, each)));
  };
  on("trouble", frame.signal, drawBanner);
  drawBanner();
  replace(
    app,
    h("a", { class: "skip", href: "#main", onclick: (event) => (event.preventDefault(), document.getElementById("main").focus()) }, t("skip")),
    h(
      "header",
      { class: "top" },
      h("a", { class: "brand", href: "#/", "aria-label": t("brand") }, h("span", { class: "brand-mark", "aria-hidden": "true" }, icon("bolt")), h("span", { class: "brand-name" }, "zit_ext")),
      h("nav", { "aria-label": t("nav") }, navigation()),
      h("div", { class: "tools" }, light, languageButton(), themeButton(), state.session.token_needed && signOutButton()),
    ),
    banner,
    h("main", { id: "main", tabindex: "-1" }),
  );
  show();
}

const navigation = () =>
  Object.entries(VIEWS)
    .filter(([, { under }]) => !under)
    .map(([name, { title }]) => h("a", { href: `#/${name}`, "data-view": name }, t(title)));

function themeButton() {
  const root = document.documentElement;
  const button = h("button", { type: "button", class: "icon-button", "data-test": "theme", onclick: () => set(THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length]) }, icon("theme"));
  const set = (theme) => {
    root.dataset.theme = theme;
    remember("theme", theme);
    name();
  };
  const name = () => {
    const words = t(`theme.${root.dataset.theme}`);
    button.title = words;
    button.setAttribute("aria-label", words);
  };
  name();
  return button;
}

function languageButton() {
  const other = language === "en" ? "zh" : "en";
  return h("button", { type: "button", class: "tool", lang: other, title: LANGUAGES[other], "data-test": "language", onclick: async () => {
    language = await speak(other);
    remember("lang", language);
    drawFrame();
  } }, icon("globe"), LANGUAGES[other]);
}

function signOutButton() {
  return h("button", { type: "button", class: "icon-button", "aria-label": t("sign.out"), title: t("sign.out"), onclick: async () => {
    await ask("DELETE", "v1/session");
    forgetForm();
    askToSignIn();
  } }, icon("out"));
}

// The views

function show() {
  if (!state.session) return;
  const { name, rest, query } = place();
  const known = VIEWS[name] ?? VIEWS[""];
  const before = shown;
  shown = location.hash;
  if (before !== null) scrolled.set(before.split("?")[0], scrollY);
  leaving.abort();
  leaving = new AbortController();
  const title = t(known.title);
  document.title = `${title} · zit_ext`;
  for (const link of app.querySelectorAll("nav a")) {
    const current = link.dataset.view === (known.under ?? (VIEWS[name] ? name : ""));
    if (current) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  const main = document.getElementById("main");
  const heading = h("h1", { class: known === VIEWS[""] || known.under ? "hidden" : null, tabindex: "-1" }, title);
  replace(main, heading, known.view(leaving.signal, rest, query));
  if (before !== null && before !== shown) {
    heading.focus({ preventScroll: true });
    const same = before.split("/")[1] === shown.split("/")[1];
    scrollTo({ top: same ? scrollY : (scrolled.get(shown.split("?")[0]) ?? 0) });
  }
}

addEventListener("hashchange", show);
addEventListener("zit-sign-in", askToSignIn);
addEventListener("unhandledrejection", (event) => say(event.reason?.message ?? String(event.reason), "bad"));

begin();
