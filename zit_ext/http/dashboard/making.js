// A small form to ask for a picture: so that a miss can be watched, and then the hit.

import { typed } from "./exact.js";
import { followed, here, post } from "./asking.js";
import { badge } from "./answers.js";
import { h, icon, iconButton, replace } from "./dom.js";
import { comparison } from "./fields.js";
import { state } from "./live.js";
import { empty, trying } from "./notices.js";
import { duration, remember, remembered, t } from "./words.js";

const SIZES = [256, 512, 768, 1024, 1280, 1536];
const FIRST = { prompt: "", seed: 42, width: 1024, height: 1024, steps: 8 };

// What stands in the form, and the last picture: both are still there when one comes back to this view.
let given = null;
let last = null;

function start() {
  try {
    return { ...FIRST, ...JSON.parse(remembered("form") ?? "{}") };
  } catch {
    return { ...FIRST };
  }
}

/** Put settings of another picture into the form. */
export function takeOver(settings) {
  given = { ...FIRST, ...settings };
  remember("form", JSON.stringify(given));
}

/** Forget what was asked for: whoever comes next is somebody else. */
export function forgetForm() {
  remember("form", "{}");
}

/** Return the form, and beneath it the picture. */
export function makingForm(signal) {
  given ??= start();
  const place = h("div", { class: "made" });
  const prompt = h("textarea", { id: "prompt", rows: 2, value: given.prompt, placeholder: t("make.placeholder"), required: true, maxlength: 100000 });
  const seed = h("input", { id: "seed", type: "number", value: given.seed, step: 1, min: -1 });
  const steps = h("input", { id: "steps", type: "number", value: given.steps, min: 1, max: 1000 });
  const side = (id) => h("input", { id, type: "number", value: given[id], min: 16, max: 8192, step: 16, list: "sides" });
  const width = side("width");
  const height = side("height");
  const button = h("button", { type: "submit", class: "main" }, icon("bolt"), h("span", {}, t("make.go")));
  const labelled = (label, input, ...more) => h("div", { class: "labelled" }, h("label", { for: input.id }, label), h("div", { class: "with-button" }, input, more));

  const fields = () => ({
    ...Object.fromEntries(Object.entries(given).filter(([name]) => !["prompt", "seed", "width", "height", "steps"].includes(name))),
    prompt: prompt.value,
    seed: typed(seed.value || "-1"),
    width: Number(width.value),
    height: Number(height.value),
    steps: Number(steps.value),
  });
  const make = async () => {
    given = fields();
    remember("form", JSON.stringify(given));
    button.disabled = true;
    await trying(() => follow(place, given, signal));
    button.disabled = false;
  };
  const foresee = () => trying(async () => {
    const told = await post("v1/explain", fields(), { signal });
    replace(place, foreseen(told));
  });
  const more = Object.keys(given).filter((name) => !(name in FIRST));
  if (last) showMade(place, last);
  else replace(place, empty("brush", t("make.empty"), t("make.emptyDo")));
  return h(
    "section",
    { class: "card making" },
    h("h2", {}, t("make.title")),
    h(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          make();
        },
      },
      h("label", { for: "prompt", class: "hidden" }, t("field.prompt")),
      prompt,
      h(
        "div",
        { class: "form-row" },
        labelled(t("field.seed"), seed, iconButton("dice", t("make.draw"), () => (seed.value = Math.floor(Math.random() * 1e9)))),
        labelled(t("field.width"), width),
        labelled(t("field.height"), height),
        labelled(t("field.steps"), steps),
      ),
      h("datalist", { id: "sides" }, SIZES.map((value) => h("option", { value }))),
      more.length > 0 && h("p", { class: "soft small" }, t("make.also", { fields: more.join(", ") }), " ", h("button", { type: "button", class: "link", onclick: (event) => { for (const name of more) delete given[name]; event.target.parentElement.remove(); } }, t("make.drop"))),
      h("div", { class: "form-buttons" }, button, h("button", { type: "button", class: "quiet", onclick: foresee, "data-test": "explain" }, icon("search"), t("make.ask"))),
    ),
    place,
  );
}

/** Return what would become of a request, and of a miss what it differs in from the nearest entry. */
function foreseen({ verdict, reason, entry, nearest, differences }) {
  const other = entry ?? nearest;
  return [
    h("p", { class: "made-words", role: "status" }, badge(verdict), " ", t(`make.would.${verdict}`)),
    verdict !== "hit" && h("p", { class: "soft small" }, reason),
    Object.keys(differences).length > 0 && comparison(differences, t("compare.form"), t("compare.that")),
    other && h("a", { class: "more", href: `#/entry/${other.key}` }, t(entry ? "entry.open" : "entry.openOther"), " →"),
  ];
}

async function follow(place, asked, signal) {
  const bar = h("progress", { max: 1, "aria-label": t("make.running") });
  const words = h("p", { class: "soft" }, state.models?.loading ? t("make.loading") : t("make.running"));
  const preview = h("div", { class: "preview" });
  replace(place, preview, bar, words);
  try {
    for await (const { name, data } of followed("v1/generate", { ...asked, stream: true, previews: true }, signal)) {
      if (name === "step") {
        bar.max = data.total;
        bar.value = data.done;
        replace(words, t("make.step", { done: data.done, total: data.total }));
      } else if (name === "preview") {
        replace(preview, h("img", { src: `data:image/png;base64,${data.b64_json}`, alt: "" }));
      } else if (name === "error") {
        replace(place, h("p", { class: "note bad", role: "alert" }, data.field ? `${data.field}: ${data.message}` : data.message));
      } else if (name === "result") {
        [last] = data.images;
        last.prompt = asked.prompt;
        showMade(place, last);
      }
    }
  } catch (error) {
    replace(place, error.name !== "AbortError" && h("p", { class: "note bad", role: "alert" }, error.message));
  }
}

function showMade(place, image) {
  const kind = image.collapsed ? "collapsed" : image.outcome;
  const words = {
    hit: t("make.hit", { time: duration(image.seconds), saved: duration(image.saved_seconds) }),
    miss: t("make.miss", { time: duration(image.seconds) }),
    bypass: t("make.bypass", { why: image.detail ?? "" }),
    collapsed: t("make.collapsed"),
  }[kind];
  const stays = image.stored || image.outcome === "hit";
  replace(
    place,
    h("img", { class: "made-picture", src: image.url.startsWith("data:") ? image.url : here(image.url), alt: image.prompt }),
    h("p", { class: `made-words pop made-${kind}`, role: "status" }, badge(kind), " ", words),
    image.warnings.map((warning) => h("p", { class: "note" }, warning)),
    h("p", { class: "soft small" }, t("make.seed", { seed: image.seed }), " ", stays && image.key && h("a", { class: "more", href: `#/entry/${image.key}` }, t("entry.open"), " →")),
  );
}
