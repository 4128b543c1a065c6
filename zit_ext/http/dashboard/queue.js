// What is being made at this moment, with a way to stop each.

import { post } from "./asking.js";
import { h, iconButton, replace } from "./dom.js";
import { may, on, state } from "./live.js";
import { say, trying } from "./notices.js";
import { ago, t } from "./words.js";

/** Return the live queue. */
export function runningList(signal) {
  const list = h("ul", { class: "running", role: "list" });
  const draw = () => {
    const running = state.queue?.running ?? [];
    if (running.length) replace(list, running.map(line));
    else replace(list, h("li", { class: "soft quiet-queue" }, t("queue.empty")));
  };
  on("queue", signal, draw);
  draw();
  return list;
}

function line(each) {
  return h(
    "li",
    { class: "running-line", "data-number": each.number },
    h("div", { class: "running-words" }, h("span", { class: "running-prompt", title: each.prompt }, each.prompt || t("prompt.hidden")), h("span", { class: "soft small" }, `${each.width} × ${each.height} · ${each.total ? t("make.step", { done: each.done, total: each.total }) : t("queue.waits")} · ${ago(each.started_at)}`)),
    h("progress", each.total ? { max: each.total, value: each.done, "aria-label": t("make.running") } : { "aria-label": t("queue.waits") }),
    may("generate") && iconButton("stop", t("queue.stop"), () => trying(async () => {
      await post(`v1/queue/${each.number}/stop`);
      say(t("queue.stopped"));
    }), { disabled: each.stopped }),
  );
}
