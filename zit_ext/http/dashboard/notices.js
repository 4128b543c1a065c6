// What the page says in between: a short notice, a question before something is lost, what stands in an empty place.

import { h, icon } from "./dom.js";
import { t } from "./words.js";

const SECONDS = 6;

/** Say something in passing; what went wrong stays until it is closed. */
export function say(words, kind = "good") {
  const close = () => toast.remove();
  const toast = h(
    "div",
    { class: `toast toast-${kind}` },
    h("span", {}, words),
    h("button", { type: "button", class: "icon-button", "aria-label": t("close"), onclick: close }, icon("cross")),
  );
  document.getElementById("toasts").append(toast);
  if (kind === "good") setTimeout(close, SECONDS * 1000);
}

/** Do something; say what went wrong, in words. Returns what it returns, or undefined. */
export async function trying(run) {
  try {
    return await run();
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    if (error.code === undefined) throw error;
    say(error.message, "bad");
    return undefined;
  }
}

/** Ask before something is lost; resolves to whether it may be. */
export function confirmed(words, does) {
  return new Promise((resolve) => {
    const answer = (yes) => () => {
      dialog.close();
      resolve(yes);
    };
    const dialog = h(
      "dialog",
      { "aria-labelledby": "question", onclose: () => (dialog.remove(), resolve(false)) },
      h("p", { id: "question" }, words),
      h(
        "div",
        { class: "buttons end" },
        h("button", { type: "button", class: "quiet", onclick: answer(false) }, t("cancel")),
        h("button", { type: "button", class: "danger", onclick: answer(true), "data-test": "confirm" }, does),
      ),
    );
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Put a text on the clipboard, and say so. */
export async function copied(text, words) {
  try {
    await navigator.clipboard.writeText(text);
    say(words);
  } catch {
    say(t("copy.refused"), "bad");
  }
}

/** Return what stands where there is nothing yet: a drawing, what is missing, and what to do about it. */
export function empty(drawing, words, what, ...more) {
  return h("div", { class: "empty" }, h("span", { class: "empty-icon" }, icon(drawing)), h("p", { class: "empty-words" }, words), h("p", { class: "empty-do" }, what), more);
}
