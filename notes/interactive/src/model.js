// ---- Counting: day 05, llm/models/counts.py --------------------------------------------------

const V = DATA.vocabulary.length;
const ID = new Map([...DATA.vocabulary].map((character, id) => [character, id]));
const encode = (text) => [...text].map((character) => ID.get(character));
const range = (n, f) => Array.from({length: n}, (_, i) => f(i));
const sum = (values) => values.reduce((a, b) => a + b, 0);

/** Every run of n ids as one number, its digits in base V: T − n + 1 codes, exact below 2^53. */
function pack(ids, n) {
  const codes = new Float64Array(Math.max(ids.length - n + 1, 0));
  for (let i = 0; i < codes.length; i++)
    for (let j = 0; j < n; j++) codes[i] = codes[i] * V + ids[i + j];
  return codes;
}

/** Count packed runs: after a sort equal ones are neighbours, and so are those of one context. */
function level(codes) {
  codes = codes.slice().sort();
  const grams = [], counts = [], contexts = [], first = [];
  for (let i = 0; i < codes.length; i++) {
    if (i && codes[i] === codes[i - 1]) { counts[counts.length - 1]++; continue; }
    const context = Math.floor(codes[i] / V);
    if (context !== contexts.at(-1)) { contexts.push(context); first.push(grams.length); }
    grams.push(codes[i]);
    counts.push(1);
  }
  first.push(grams.length);
  return {grams: Float64Array.from(grams), counts, contexts, first, steps: discounts(counts)};
}

/** [from, to) of the runs that continue a context, or null where it was never seen. */
function followers({contexts, first}, code) {
  let low = 0, high = contexts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (contexts[middle] < code) low = middle + 1; else high = middle;
  }
  return contexts[low] === code ? [first[low], first[low + 1]] : null;
}

// ---- Smoothing: day 06, llm/models/smoothing.py and ngram.py ---------------------------------

/** Three discounts from how many runs were seen 1, 2, 3, 4 times: Chen and Goodman, section 3. */
function discounts(counts) {
  const [n1, n2, n3, n4] = [1, 2, 3, 4].map((r) => counts.filter((c) => c === r).length);
  const y = n1 / (n1 + 2 * n2);
  const found = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3];
  return n1 && n2 && n3 && n4 && found.every((d) => d > 0) ? found : [.5, 1, 1.5];
}

const IDS = encode(DATA.text), counted = {}, fitted = {};
const plainLevel = (n) => counted[n] ??= level(pack(IDS, n));

/** The levels of a model, shortest runs first: [{n, grams, counts, …}]; made once, then kept. */
function fit(order, smoothing) {
  const kind = ["add-k", "kneser-ney"].includes(smoothing) ? smoothing : "all";
  return fitted[kind + order] ??= {
    "add-k": () => [{n: order, ...plainLevel(order)}],
    "all": () => range(order, (i) => ({n: i + 1, ...plainLevel(i + 1)})),
    "kneser-ney": () => {       // below the top a run counts its different left neighbours:
      const levels = [{n: order, ...plainLevel(order)}];
      for (let n = order - 1; n > 0; n--)       // cut the oldest off each distinct longer run
        levels.unshift({n, ...level(levels[0].grams.map((code) => code % V ** n))});
      return levels;
    }}[kind]();
}

/**
 * P(next character | text) and where it comes from.
 *
 * Climbs from the flat distribution to the longest context. Each level keeps a part of what it
 * counted and sets a part free, which scales what the shorter contexts say; `strength` is k, alpha
 * or the discount. A context never seen has nothing to say.
 * Returns {p: V numbers, flat: share of the flat distribution, levels: [{context, total,
 * seen: ids of its followers, share}]}.
 */
function predict(text, order, smoothing, strength) {
  const ids = encode(text.slice(Math.max(0, text.length - order + 1)));
  let p = new Float64Array(V).fill(1 / V), flat = 1;
  const levels = [];
  for (const one of fit(order, smoothing)) {
    if (ids.length < one.n - 1) break;
    const recent = ids.slice(ids.length - one.n + 1);
    const place = followers(one, recent.reduce((code, id) => code * V + id, 0));
    const context = recent.map((id) => DATA.vocabulary[id]).join("");
    if (!place) { levels.push({context, total: 0, seen: [], share: 0}); continue; }
    const counts = one.counts.slice(...place), total = sum(counts);
    let kept, free;
    if (smoothing === "add-k" || smoothing === "interpolated") {         // (c + a·p) / (C + a)
      const prior = smoothing === "add-k" ? strength * V : strength;
      kept = counts.map((c) => c / (total + prior));
      free = prior / (total + prior);
    } else {                                                             // (c − d) / C + free·p
      const steps = smoothing === "absolute" ? [strength, strength, strength] : one.steps;
      const cuts = counts.map((c) => steps[Math.min(c, 3) - 1]);
      kept = counts.map((c, i) => (c - cuts[i]) / total);
      free = sum(cuts) / total;
    }
    const seen = Array.from(one.grams.slice(...place), (code) => code % V);
    p = p.map((x) => x * free);
    seen.forEach((id, i) => { p[id] += kept[i]; });
    for (const shorter of levels) shorter.share *= free;
    flat *= free;
    levels.push({context, total, seen, share: 1 - free});
  }
  return {p, flat, levels};
}

/** Inverse CDF, day 08: the first id whose running sum passes the point u·S of the stick. */
function pick(p, u) {
  const point = u * sum(p);
  let reached = 0;
  return p.findIndex((x) => (reached += x) > point);
}

/** The ids by falling probability, equal ones by id. */
const ranked = (p) => range(p.length, (id) => id).sort((a, b) => p[b] - p[a] || a - b);

// ---- Drawing, for both pages -----------------------------------------------------------------

const $ = (id) => document.getElementById(id);
const NAMED = {" ": "space", "\n": "new line"};
const sign = (text) => text.replaceAll(" ", "␣").replaceAll("\n", "⏎");

const percent = (p) => p > 0 && p < .0005 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`;

/** One line of a distribution: a name (an element), a bar on a scale from 0 to 1, the number. */
function bar(name, p, light = false, before = null) {
  const fill = element("span", {className: light ? "bar light" : "bar"});
  const track = element("span", {className: "track", ariaHidden: "true"}, fill);
  fill.style.width = `${100 * p}%`;
  if (before !== null) {                        // where the bar was before something was changed
    const mark = element("span", {className: "mark"});
    mark.style.left = `${100 * before}%`;
    track.append(mark);
  }
  return element("li", {}, name, track, element("span", {className: "number"}, percent(p)));
}
