// What can be done with stored entries: pin, remove, download, take over the settings.

import { ask, get, here, post } from "./asking.js";
import { h } from "./dom.js";
import { takeOver } from "./making.js";
import { confirmed, copied, say, trying } from "./notices.js";
import { go } from "./route.js";
import { t } from "./words.js";

/** Pin entries, or let them go again; returns whether it was done. */
export async function pinning(entries, pin) {
  const done = await trying(() => post(`v1/entries/${pin ? "pin" : "unpin"}`, { keys: entries.map((each) => each.key) }));
  if (done) say(t(pin ? "deed.pinned" : "deed.unpinned"));
  return Boolean(done);
}

/** Remove an entry, if the person really wants to; returns whether it is gone. */
export async function removing(entry) {
  if (!(await confirmed(t("deed.removeAsk", { prompt: entry.prompt ?? entry.key.slice(0, 12) }), t("deed.remove")))) return false;
  const done = await trying(() => ask("DELETE", `v1/entries/${entry.key}`));
  if (done) say(t("deed.removed"));
  return Boolean(done);
}

/** Save the picture as a file whose name says what it is. */
export function download(entry) {
  const words = (entry.prompt ?? "").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 48).replace(/^-|-$/g, "");
  const kind = entry.media_type.split("/").pop().replace("jpeg", "jpg");
  const link = h("a", { href: here(entry.url), download: `${words || "picture"}-${entry.key.slice(0, 8)}.${kind}` });
  document.body.append(link);
  link.click();
  link.remove();
}

const SETTINGS = [
  "prompt", "negative_prompt", "seed", "width", "height", "steps", "guidance", "cfg_normalization", "cfg_truncation",
  "sigmas", "max_sequence_length", "generator_device", "strength",
];

/** Return the settings of an entry as a request has them; its files by name, its input picture left out. */
export function settingsOf(entry) {
  const { fields } = entry;
  const made = {};
  for (const name of SETTINGS) {
    if (fields[name] !== undefined && fields[name] !== null && fields[name] !== "") made[name] = fields[name];
  }
  if (!fields.image) delete made.strength;
  if (!made.guidance) for (const name of ["cfg_normalization", "cfg_truncation"]) delete made[name];
  if (entry.model) made.model = entry.model;
  return made;
}

export const copySettings = (entry) => copied(JSON.stringify(settingsOf(entry), null, 2), t(isWhole(entry) ? "deed.copied" : "deed.copiedPart"));

// Of LoRAs and input pictures an entry knows the digests only: whoever wants them must name them again.
const isWhole = ({ fields }) => !fields.image && !fields.loras?.length;

/** Put an entry's settings into the form, and go there. */
export async function reuse(entry) {
  const whole = entry.fields ? entry : await trying(() => get(`v1/entries/${entry.key}`));
  if (!whole) return;
  takeOver(settingsOf(whole));
  if (!isWhole(whole)) say(t("deed.reusedPart"));
  go("#/");
}
