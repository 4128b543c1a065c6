// Pages of entries, fetched as they come into sight and forgotten when there are too many of them.

import { get } from "./asking.js";

const SIZE = 120;
const MOST = 40;
const PAUSE_MS = 60;

/** The entries of one question. `total` is null until it is known. */
export class Pages {
  constructor(signal) {
    this.signal = signal;
    this.onchange = () => {};
    this.total = null;
    this.trouble = null;
    this.clear();
  }

  clear() {
    this.pages = new Map(); // number -> entries
    this.old = new Map(); // what stood there before: shown until the new ones have come
    this.asking = new Map(); // number -> promise
    this.round = (this.round ?? 0) + 1;
  }

  /** Ask anew; `fresh`: for something else, so that nothing that stands there may stay. */
  async look(query, fresh) {
    this.query = new URLSearchParams(query);
    const before = fresh ? new Map() : new Map([...this.old, ...this.pages].slice(-MOST));
    const wanted = fresh ? [0] : [...this.pages.keys()].slice(-3);
    this.clear();
    this.old = before;
    if (fresh) this.total = null;
    this.onchange();
    await Promise.all((wanted.length ? wanted : [0]).map((number) => this.fetch(number)));
  }

  /** Return the entry at this place, or undefined while it is on its way. */
  at(place) {
    const number = Math.floor(place / SIZE);
    return (this.pages.get(number) ?? this.old.get(number))?.[place % SIZE];
  }

  /** Have what lies between these places; what is passed over quickly is not asked for. */
  want(first, last) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      for (let number = Math.floor(first / SIZE); number * SIZE < last; number += 1) {
        if (!this.pages.has(number) && !this.asking.has(number)) this.fetch(number);
      }
    }, PAUSE_MS);
  }

  async arrived(place) {
    await this.fetch(Math.floor(place / SIZE));
  }

  fetch(number) {
    if (this.pages.has(number)) return Promise.resolve();
    if (!this.asking.has(number)) this.asking.set(number, this.ask(number, this.round));
    return this.asking.get(number);
  }

  async ask(number, round) {
    const query = new URLSearchParams(this.query);
    query.set("limit", SIZE);
    query.set("offset", number * SIZE);
    query.set("total", "true");
    try {
      const page = await get(`v1/entries?${query}`, { signal: this.signal });
      if (round !== this.round) return;
      this.total = page.total;
      this.trouble = null;
      this.pages.set(number, page.entries);
      if (this.pages.size > MOST) this.pages.delete(this.pages.keys().next().value);
    } catch (error) {
      if (error.name === "AbortError" || round !== this.round) return;
      this.trouble = error.message;
    } finally {
      if (round === this.round) this.asking.delete(number);
    }
    this.onchange();
  }
}
