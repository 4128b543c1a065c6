// What the charts draw, from what the history has. Plain numbers in, plain numbers out.

export const OUTCOMES = ["hit", "collapsed", "miss", "bypass"];

const NOTHING = { hit: 0, miss: 0, bypass: 0, collapsed: 0, saved_seconds: 0, render_seconds: 0, load_seconds: 0 };

/** Return `count` equal spans that end now, with what the buckets of the history say of each. */
export function spans(history, hours, count, now = Date.now() / 1000) {
  const length = (hours * 3600) / count;
  const end = Math.ceil(now / length) * length;
  const start = end - count * length;
  const made = Array.from({ length: count }, (_, place) => ({
    at: start + place * length,
    length,
    ...NOTHING,
    models: new Set(),
    store_bytes: null,
    entries: null,
  }));
  for (const bucket of history?.buckets ?? []) {
    // A long bucket's middle says best which span it belongs to.
    const middle = bucket.at + Math.min(history.step, Math.max(0, now - bucket.at)) / 2;
    const span = made[Math.floor((middle - start) / length)];
    if (!span) continue;
    add(span, bucket);
    for (const model of bucket.models ?? []) span.models.add(model);
    if (bucket.store_bytes != null) span.store_bytes = bucket.store_bytes;
    if (bucket.entries != null) span.entries = bucket.entries;
  }
  return made;
}

/** Return the sums over all buckets: outcomes, seconds, reasons, and counts of each latency bin. */
export function sums(history) {
  const all = { ...NOTHING, reasons: {}, latencies: { hit: [], miss: [] } };
  for (const bucket of history?.buckets ?? []) {
    add(all, bucket);
    for (const [reason, n] of Object.entries(bucket.reasons ?? {})) all.reasons[reason] = (all.reasons[reason] ?? 0) + n;
    for (const [outcome, counts] of Object.entries(all.latencies)) {
      (bucket.latencies?.[outcome] ?? []).forEach((n, place) => {
        counts[place] = (counts[place] ?? 0) + n;
      });
    }
  }
  return all;
}

// The history counts a miss that shared another's run as a miss too; a chart shows it once.
function add(sum, bucket) {
  for (const name of Object.keys(NOTHING)) sum[name] += bucket[name] ?? 0;
  sum.miss -= bucket.collapsed ?? 0;
}

/** Return hits among those that were looked up, or null if nobody asked. */
export function rate(sum) {
  const looked = sum.hit + sum.collapsed + sum.miss;
  return looked ? sum.hit / looked : null;
}

/** Return the time in the middle of all times, in seconds, from counts per bin; null if there are none. */
export function median(counts, edges) {
  const total = counts.reduce((sum, n) => sum + n, 0);
  if (!total) return null;
  let seen = 0;
  for (let place = 0; place < counts.length; place += 1) {
    if (seen + counts[place] >= total / 2) {
      const [low, high] = binEdges(edges, place);
      return low * (high / low) ** ((total / 2 - seen) / counts[place]);
    }
    seen += counts[place];
  }
  return null;
}

/** Return from where to where a bin reaches, in seconds. The first begins and the last ends somewhere, too. */
export function binEdges(edges, place) {
  const low = place === 0 ? edges[0] / 2 : edges[place - 1];
  const high = place < edges.length ? edges[place] : edges[edges.length - 1] * 2;
  return [low, high];
}
