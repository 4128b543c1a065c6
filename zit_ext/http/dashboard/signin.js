// Asks for a token, where the server wants one. It goes into a cookie that no script can read.

import { ask } from "./asking.js";
import { h, icon, replace } from "./dom.js";
import { t } from "./words.js";

/** Return the sign-in form; `done` is called when the server knows us. */
export function signIn(done) {
  const input = h("input", { id: "token", type: "password", autocomplete: "current-password", required: true });
  const trouble = h("div", { role: "alert" });
  const send = async (event) => {
    event.preventDefault();
    try {
      await ask("POST", "v1/session", { token: input.value.trim() });
      await done();
    } catch (error) {
      replace(trouble, h("p", { class: "note bad" }, error.message));
      input.select();
    }
  };
  return h(
    "main",
    { class: "sign-in", id: "main" },
    h(
      "form",
      { class: "card", onsubmit: send },
      h("span", { class: "empty-icon" }, icon("bolt")),
      h("h1", { tabindex: "-1" }, t("sign.title")),
      h("p", { class: "soft" }, t("sign.words")),
      h("label", { for: "token" }, t("sign.token")),
      input,
      trouble,
      h("button", { type: "submit", class: "main" }, t("sign.go")),
      h("p", { class: "soft small" }, t("sign.how").split("`").map((part, place) => (place % 2 ? h("code", {}, part) : part))),
    ),
  );
}
