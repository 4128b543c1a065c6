// Asks the server, and turns what went wrong into words. All addresses are below the page's own.

import { parsed } from "./exact.js";
import { has, t } from "./words.js";

const BASE = new URL("./", document.baseURI);

/** Return an address of ours: here("v1/stats"); what the server calls "/zit/blobs/…" also works. */
export const here = (path) => new URL(path.replace(/^\/zit\//, ""), BASE).href;

/** Tell whether an entry is a picture: nodes of ComfyUI also keep other things. */
export const isPicture = (entry) => entry.media_type.startsWith("image/");

/** Return the address of an entry's small picture. It names the blob, so that a browser may keep it for ever. */
export const thumbnail = (entry, size) => here(`v1/entries/${entry.key}/thumbnail?size=${size}&v=${entry.blob.slice(0, 16)}`);

/** What went wrong, in words. `status` is HTTP's, 0 if nobody answered; `code` is for programs. */
export class Trouble extends Error {
  constructor(status, code, message, field = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.field = field;
  }
}

/** Ask for JSON. Throws a Trouble; one that says "sign in" is told to the whole page too. */
export async function ask(method, path, body, { signal } = {}) {
  const answer = await send(method, path, body, { signal });
  return answer.status === 204 ? null : parsed(await answer.text());
}

export const get = (path, more) => ask("GET", path, undefined, more);
export const post = (path, body = {}, more) => ask("POST", path, body, more);

// A browser whose own cache is off (its developer tools do that) says no-cache for us, which here asks for a new
// render. What the page says itself, the browser leaves alone.
const WITH_A_BODY = { "content-type": "application/json", "cache-control": "max-age=31536000" };

async function send(method, path, body, { signal, headers = {} } = {}) {
  let answer;
  try {
    answer = await fetch(here(path), {
      method,
      signal,
      credentials: "same-origin",
      headers: body === undefined ? headers : { ...WITH_A_BODY, ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble(0, "unreachable", t("error.unreachable"));
  }
  if (answer.ok) return answer;
  throw await troubleOf(answer, path);
}

async function troubleOf(answer, path) {
  let told = {};
  try {
    told = (await answer.json()).error ?? {};
  } catch {
    // Not ours: a proxy's page, or nothing.
  }
  const code = told.code ?? String(answer.status);
  const known = `error.${code}`;
  let message = has(known) ? t(known) : (told.message ?? t("error.status", { status: answer.status }));
  if (told.field && !has(known)) message = `${told.field}: ${message}`;
  if (answer.status === 401 && !path.startsWith("v1/session")) dispatchEvent(new Event("zit-sign-in"));
  return new Trouble(answer.status, code, message, told.field ?? null);
}

/** Ask for a picture and follow it: yields {name, data} of each server-sent event. */
export async function* followed(path, body, signal) {
  const answer = await send("POST", path, body, { signal, headers: { accept: "text/event-stream" } });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const name = /^event: (.*)$/m.exec(block);
      const data = /^data: (.*)$/m.exec(block);
      if (name && data) yield { name: name[1], data: parsed(data[1]) };
    }
  }
}
