// What the server does at this moment. One stream of events feeds every part of the page; where it cannot be
// had, the same things are asked for every few seconds.

import { parsed } from "./exact.js";
import { get, here } from "./asking.js";

const POLL_MS = 5000;
const HISTORY_MS = 1500;
const MINUTE_MS = 60_000;
const ANSWERS = 300;
export const WEEK = 168;

const told = new EventTarget();

/** What is known. Parts read it, and are told by `on` when some of it is new. */
export const state = {
  session: null,
  stats: null,
  models: null,
  queue: null,
  health: null,
  plugins: null,
  answers: [],
  histories: new Map(), // by hours
  troubles: new Map(), // what could not be asked just now: name -> words
  live: "starting", // starting | stream | polling | lost
};

/** Call `run` with what is new under this name, until the signal says that nobody looks any more. */
export function on(name, signal, run) {
  told.addEventListener(name, (event) => run(event.detail), { signal });
}

function tell(name, detail) {
  told.dispatchEvent(new CustomEvent(name, { detail }));
}

function learn(name, value) {
  state[name] = value;
  untroubled(name);
  tell(name, value);
}

/** Return what tells one answer from all others. */
export const nameOf = (answer) => `${answer.at}-${answer.seed}`;

function troubled(name, error) {
  state.troubles.set(name, error.message);
  tell("trouble");
}

function untroubled(name) {
  if (state.troubles.delete(name)) tell("trouble");
}

export const may = (scope) => state.session?.scopes.includes(scope) ?? false;

let stream = null;
let polling = 0;
let retry = 0;
let hours = new Set([WEEK]);
let historyTimer = 0;
let historyAt = 0;

/** Begin: ask for everything once, then listen. Throws what asking who we are throws. */
export async function start() {
  stop();
  learn("session", await get("v1/session"));
  await refresh();
  listen();
}

export function stop() {
  stream?.close();
  stream = null;
  clearInterval(polling);
  clearTimeout(retry);
  polling = 0;
}

/** Ask for everything that is shown; a part that cannot be had leaves the others alone. */
async function refresh() {
  const wanted = [
    ["stats", "v1/stats"],
    ["models", "v1/models"],
    ["queue", "v1/queue"],
    ["health", "v1/health"],
  ];
  if (may("admin")) wanted.push(["plugins", "v1/plugins"]);
  const asked = wanted.map(async ([name, path]) => {
    try {
      learn(name, await get(path));
    } catch (error) {
      troubled(name, error);
    }
  });
  await Promise.all([...asked, refreshAnswers(), refreshHistories()]);
}

async function refreshAnswers() {
  try {
    learn("answers", (await get(`v1/answers?limit=${ANSWERS}`)).answers);
  } catch (error) {
    troubled("answers", error);
  }
}

/** Ask for the history of so many hours; it is kept up to date from now on. */
export async function wantHistory(count) {
  const known = hours.has(count) && state.histories.has(count);
  hours = new Set([WEEK, count]);
  if (!known) await refreshHistories();
}

async function refreshHistories() {
  historyAt = Date.now();
  await Promise.all(
    [...hours].map(async (count) => {
      try {
        state.histories.set(count, await get(`v1/history?hours=${count}`));
        untroubled("history");
      } catch (error) {
        troubled("history", error);
      }
    }),
  );
  tell("history");
}

function historySoon() {
  if (historyTimer) return;
  const wait = Math.max(0, historyAt + HISTORY_MS - Date.now());
  historyTimer = setTimeout(() => {
    historyTimer = 0;
    refreshHistories();
  }, wait);
}

function listen() {
  stream = new EventSource(here("v1/events"));
  stream.addEventListener("hello", () => {
    clearInterval(polling);
    polling = 0;
    // Nobody told us what happened while there was no stream.
    if (state.live !== "starting" && state.live !== "stream") {
      refresh();
      tell("entry", { change: "changed", key: null });
    }
    learn("live", "stream");
  });
  for (const name of ["stats", "queue", "models"]) {
    stream.addEventListener(name, (event) => learn(name, parsed(event.data)));
  }
  stream.addEventListener("answer", (event) => {
    const answer = parsed(event.data);
    if (state.answers.some((each) => nameOf(each) === nameOf(answer))) return;
    state.answers = [answer, ...state.answers].slice(0, ANSWERS);
    tell("answer", answer);
    tell("answers", state.answers);
    historySoon();
  });
  stream.addEventListener("missed", () => refreshAnswers());
  stream.addEventListener("entry", (event) => tell("entry", parsed(event.data)));
  stream.onerror = () => {
    poll();
    // A browser comes back by itself to a stream that broke, and never to one that was refused.
    if (stream?.readyState === EventSource.CLOSED) {
      stream = null;
      clearTimeout(retry);
      retry = setTimeout(listen, 4 * POLL_MS);
    }
  };
}

function poll() {
  learn("live", state.live === "starting" || state.live === "stream" ? "polling" : state.live);
  if (polling) return;
  polling = setInterval(async () => {
    try {
      const before = state.stats?.store;
      learn("health", await get("v1/health"));
      await refresh();
      learn("live", "polling");
      const now = state.stats?.store;
      if (before && now && (before.entries !== now.entries || before.pinned !== now.pinned)) {
        tell("entry", { change: "changed", key: null });
      }
    } catch {
      learn("live", "lost");
    }
  }, POLL_MS);
}

// A page that nobody sees holds no connection: a browser has six of them for all pages of a server.
document.addEventListener("visibilitychange", async () => {
  if (!state.session) return;
  if (document.hidden) {
    stop();
  } else {
    stop();
    listen();
    await refresh();
    tell("entry", { change: "changed", key: null });
  }
});

setInterval(() => {
  if (!state.session || document.hidden) return;
  tell("minute");
  historySoon();
  get("v1/health").then(
    (health) => learn("health", health),
    () => learn("health", null),
  );
}, MINUTE_MS);
