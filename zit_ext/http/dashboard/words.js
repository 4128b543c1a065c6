// The words of the page, from locales/*.json, and numbers, times and sizes as people say them.

export const LANGUAGES = { en: "English", zh: "中文" };

let words = {};
let locale = "en";
let plurals = new Intl.PluralRules("en");

/** Learn the words of a language; return it. */
export async function speak(language) {
  const answer = await fetch(new URL(`locales/${language}.json`, import.meta.url));
  words = await answer.json();
  locale = language === "zh" ? "zh-CN" : "en";
  plurals = new Intl.PluralRules(locale);
  document.documentElement.lang = locale;
  return language;
}

/** Return the language that the address, an earlier choice or the browser asks for. */
export function wantedLanguage() {
  const asked = new URLSearchParams(location.search).get("lang") || remembered("lang") || navigator.language || "en";
  return asked.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** Return the words under this name, with {places} filled in; of two forms the one that fits `n`. */
export function t(name, values = {}) {
  let found = words[name];
  if (found === undefined) return name;
  if (typeof found === "object") found = found[plurals.select(Number(values.raw ?? values.n))] ?? found.other;
  return found.replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);
}

/** Tell whether there are words under this name. */
export const has = (name) => name in words;

/** Return the words under this name, or else these. */
export const either = (name, otherwise) => (name in words ? t(name) : otherwise);

export function number(value, digits = 0) {
  return new Intl.NumberFormat(locale, { maximumFractionDigits: digits }).format(value);
}

export function percent(share) {
  const digits = share > 0 && share < 0.1 ? 1 : 0;
  return new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: digits }).format(share);
}

/** "3 h 12 min", "41.5 s", "8 ms": at most two units. */
export function duration(seconds) {
  if (seconds < 0.0005) return seconds > 0 ? t("unit.us", { n: number(seconds * 1e6) }) : t("unit.s", { n: "0" });
  if (seconds < 1) return t("unit.ms", { n: number(seconds * 1000, seconds < 0.01 ? 1 : 0) });
  if (seconds < 100) return t("unit.s", { n: number(seconds, seconds < 10 ? 1 : 0) });
  const whole = Math.round(seconds);
  const units = [
    ["d", 86400],
    ["h", 3600],
    ["min", 60],
    ["s", 1],
  ];
  const first = units.findIndex(([, size]) => whole >= size);
  const [name, size] = units[first];
  const parts = [t(`unit.${name}`, { n: number(Math.floor(whole / size)) })];
  const [nextName, nextSize] = units[first + 1] ?? [];
  const rest = nextName ? Math.floor((whole % size) / nextSize) : 0;
  if (rest) parts.push(t(`unit.${nextName}`, { n: number(rest) }));
  return parts.join(" ");
}

export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  let value = count;
  while (value >= 1000 && at < units.length - 1) {
    value /= 1000;
    at += 1;
  }
  return `${number(value, at && value < 100 ? 1 : 0)} ${units[at]}`;
}

/** "3 minutes ago", "in 2 hours". */
export function ago(at, now = Date.now() / 1000) {
  const apart = at - now;
  const units = [
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
  ];
  const told = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "short" });
  for (const [unit, size] of units) {
    if (Math.abs(apart) >= size) return told.format(Math.trunc(apart / size), unit);
  }
  return Math.abs(apart) < 5 ? t("time.now") : told.format(Math.trunc(apart), "second");
}

export function moment(at) {
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "medium" }).format(at * 1000);
}

/** A clock or a day, as fits a chart over so many seconds. */
export function tick(at, span) {
  const form =
    span <= 2 * 86400 ? { hour: "2-digit", minute: "2-digit", hourCycle: "h23" } : { day: "numeric", month: "short" };
  return new Intl.DateTimeFormat(locale, form).format(at * 1000);
}

export function remembered(name) {
  try {
    return localStorage.getItem(`zit.${name}`);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`zit.${name}`, value);
  } catch {
    // A frame without storage of its own: it is asked again next time.
  }
}
