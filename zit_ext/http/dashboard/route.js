// Where in the page we are: the part of the address behind #.

/** Go to a view: go("#/entry/…"). */
export function go(hash) {
  if (location.hash === hash) dispatchEvent(new Event("hashchange"));
  else location.hash = hash;
}

/** Return the name of the view, what follows it, and what stands behind the question mark. */
export function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name = "", ...rest] = path.split("/");
  return { name, rest, query: new URLSearchParams(query) };
}

/** Change what stands behind the question mark, without a new view. */
export function amend(query) {
  const { name, rest } = place();
  const text = query.toString();
  history.replaceState(null, "", `#/${[name, ...rest].join("/")}${text ? `?${text}` : ""}`);
}
