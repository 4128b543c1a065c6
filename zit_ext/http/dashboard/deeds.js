// What can be done with stored entries: pin, remove, download, take over the settings.

import { ask, get, here, post } from "./asking.js";
import { h } from "./dom.js";
import { takeOver } from "./making.js";
import { confirmed, copied, say, trying } from "./notices.js";
import { go } from "./route.js";
import { number, t } from "./words.js";

const AT_ONCE = 1000; // keys in one request

/** Pin entries, or let them go again; returns whether it was done. */
export async function pinning(entries, pin) {
  const done = await toAll(pin ? "pin" : "unpin", entries);
  if (done) say(t(pin ? "deed.pinned" : "deed.unpinned"));
  return done;
}

/** Remove several entries, if the person really wants to; returns whether they are gone. */
export async function removingAll(entries) {
  const many = { raw: entries.length, n: number(entries.length) };
  if (!(await confirmed(t("deed.removeAskAll", many), t("deed.remove")))) return false;
  const done = await toAll("remove", entries);
  if (done) say(t("deed.removed"));
  return done;
}

// The server does it to all or to none. What went meanwhile needs nothing any more: the others are asked for again.
async function toAll(deed, entries) {
  const send = async (keys) => {
    for (let from = 0; from < keys.length; from += AT_ONCE) {
      await post(`v1/entries/${deed}`, { keys: keys.slice(from, from + AT_ONCE) });
    }
    return true;
  };
  const keys = entries.map((each) => each.key);
  const done = await trying(async () => {
    try {
      return await send(keys);
    } catch (error) {
      if (error.status !== 404 || keys.length === 1) throw error;
      return send(await stillThere(keys));
    }
  });
  return Boolean(done);
}

async function stillThere(keys) {
  const there = [];
  for (const key of keys) {
    try {
      await get(`v1/entries/${key}`);
      there.push(key);
    } catch (error) {
      if (error.status !== 404) throw error;
    }
  }
  return there;
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
