/* The page `explore`: adds up the columns of `pimllm_lib/report/explorer.py`. Every number is one that `pimllm evaluate` gives;
   between the points of the grid there is nothing, and what is linear is a number of its own. */
(() => {
"use strict";
const at = (id) => document.getElementById(`explore-${id}`);
let book, data; // what explorer.py says of its controls and columns; the slices of all columns
const BASE = ["catalog", "same"];
const SAID = {
  "as-published": "as-published", corrected: "corrected", "full-system": "full-system: a whole machine",
  "": "the system's own", hp: "high performance (hp)", lop: "low operating power (lop)", lstp: "low standby power (lstp)",
  "tpu-llm": "TPU-LLM", "pim-llm": "PIM-LLM", "pim-llm-groups": "PIM-LLM, ports for row groups",
  catalog: "as the catalog has it", same: "of the same clock, groups, cells",
};
const WINS = [["◆", "both", "faster and takes less energy"], ["▲", "faster", "faster alone"], ["▼", "thriftier", "takes less energy alone"], ["·", "neither", "neither"]];

/* ---- the numbers ---- */

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function load() {
  const [head, slices] = await Promise.all(at("data").textContent.split(".").map(inflated));
  book = JSON.parse(new TextDecoder().decode(head));
  const count = slices.length / 8, bytes = new Uint8Array(slices.length);
  for (let i = 0; i < count; i++) for (let j = 0; j < 8; j++) bytes[8 * i + j] = slices[j * count + i];
  const view = new DataView(bytes.buffer);
  data = Float64Array.from({ length: count }, (_, i) => view.getFloat64(8 * i, true));
  for (const columns of Object.values(book.columns)) for (const column of Object.values(columns)) column[1] = column[1].split(" ").map((said) => {
    const of = Array.from(said, (letter) => parseInt(letter, 16));
    return { of, count: Math.max(...of) + 1 };
  });
}

/* The value of a column at places along the axes. */
const value = ([start, slices], places) =>
  data[start + slices.reduce((index, { of, count }, i) => index * count + of[places[i]], 0)];

/* Time (s) and energy (J) of a token by part, and in all. */
function token(system, state) {
  const places = Object.entries(book.axes).map(([axis, values]) => values.indexOf(state[axis]));
  const found = { s: {}, j: {} }, static_ = {}, power = state.power_w / book.adc.power_w;
  for (const [key, column] of Object.entries(book.columns[`${system} ${state.conventions}`])) {
    const [letter, part] = key.split(":"), number = value(column, places);
    if (part) found[letter][part] = (found[letter][part] ?? 0) + number * (key === "j:ADC:tiles" ? power : 1);
    else static_[key] = number;
  }
  const all = (parts) => Object.values(parts).reduce((sum, number) => sum + number, 0);
  const of = (key) => static_[key] ?? 0, waiting = power * state.idle_share / book.adc.idle_share, share = state.gated_share;
  const s = all(found.s);
  const joules = of("w_on") * s - of("w_array") * (found.s.array ?? 0) + of("j_leak") + of("j_leak_c") * waiting
    + share * ((of("w_pim") + of("w_adc") * waiting) * s - of("j_sleep") - of("j_sleep_c") * waiting)
    + (1 - share) * (of("j_wake") + of("j_wake_c") * waiting);
  if (Object.keys(static_).length) found.j.static = joules;
  return { parts: found, s, j: all(found.j) };
}

const named = (system, cells) => (cells ? `${system}-${cells}` : system);
const grouped = (state) => ({ ...state, scale_group: state.groups === "own" ? book.groups[state.model][0] : Number(state.groups) });

/* The chosen system and TPU-LLM, each with what it is called, the fields that are set, and a token; none where groups do not fit. */
function both(chosen) {
  const state = grouped(chosen), same = chosen.base === "same";
  if (!book.groups[state.model].slice(1).includes(state.scale_group)) return null;
  const base = same ? state : { ...state, ...book.own["tpu-llm"] };
  return [[state.system, state.cells, state], ["tpu-llm", same ? state.cells : "", base]].map(([system, cells, now]) => {
    const fits = book.systems[system].includes(cells) ? cells : "";
    const set = Object.entries(book.fields).filter(([key, path]) =>
      now[key] !== { ...book.own[system], ...book.adc }[key] && (system !== "tpu-llm" || !path.startsWith("pim.")));
    return { name: named(system, fits), set: set.map(([key, path]) => [path, now[key]]), state: now, ...token(named(system, fits), now) };
  });
}

const verdict = ([one, other]) => (one.s < other.s ? (one.j < other.j ? 0 : 1) : one.j < other.j ? 2 : 3);

/* ---- how numbers are written: four digits, as `pimllm evaluate` prints them ---- */

const digits = (number, count = 4) => String(Number(number.toPrecision(count)));
function scaled(number, unit) {
  const [factor, letter] = [[1, ""], [1e-3, "m"], [1e-6, "µ"]].find(([size]) => number >= size) ?? [1e-9, "n"];
  return `${digits(number / factor)}\u00a0${letter}${unit}`;
}
const percent = (gain) => `${gain < 0 ? "−" : "+"}${digits(100 * Math.abs(gain), 3)}\u00a0%`;
const portion = (share) => (share < 1e-3 ? "<\u00a00.1" : digits(100 * share, 2)) + "\u00a0%";

/* ---- commands that give the same ---- */

function command({ name, set, state }) {
  const groups = state.scale_group === book.groups[state.model][0] ? [] : [["model.scale_group", state.scale_group || "inf"]];
  return [`pimllm evaluate --system ${name} --model ${state.model} --context ${state.context_len} --conventions ${state.conventions}`,
    ...[...set, ...groups].map(([path, number]) => `--set ${path} ${number}`)].join(" \\\n  ");
}

function python([one, base]) {
  const system = ({ name, set }, called) =>
    `with_fields(pl.catalog.system("${name}"), {${[["name", `"${called}"`], ...set].map(([path, number]) => `"${path}": ${number}`).join(", ")}})`;
  const { model, context_len, conventions, scale_group } = one.state, own = scale_group === book.groups[model][0];
  return [...(own ? [] : ["from dataclasses import replace", ""]), "import pimllm_lib as pl", "from pimllm_lib.core.parts import with_fields", "",
    `chosen = ${system(one, "chosen")}`, `base = ${system(base, "tpu")}`,
    own ? `model = "${model}"` : `model = replace(pl.catalog.model("${model}"), scale_group=${scale_group || 'float("inf")'})`,
    `ds = pl.evaluate(system=[chosen, base], model=model, context_len=${context_len}, conventions="${conventions}")`,
    'both = pl.metrics.compare(pl.metrics.summary(ds), baseline="tpu")',
    'print(both[["tokens_per_s", "tokens_per_j", "speedup", "energy_gain"]].to_dataframe().to_string())'].join("\n");
}

/* ---- controls ---- */

function element(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== false) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}

/* Key -> label, what it holds (a list, or the bounds of a number and what it is multiplied by), and what to know of it. */
const controls = () => ({
  system: ["System", Object.keys(book.systems)],
  model: ["Model", book.axes.model],
  context_len: ["Context, tokens", book.axes.context_len],
  conventions: ["Counting", book.conventions],
  base: ["Compared with TPU-LLM", BASE],
  rate_hz: ["Array clock", book.axes.rate_hz, (hz) => `${hz / 1e6} MHz`],
  row_groups: ["Row groups of the array", book.axes.row_groups],
  cells: ["SRAM cells", book.systems["pim-llm"]],
  groups: ["Inputs that share a scale", ["own", ...book.axes.scale_group.map(String)]],
  bits: ["ADC bits", book.axes.bits],
  power_w: ["ADC power, mW", [0.01, 100, 1e-3]],
  idle_share: ["ADC power while it waits, %", [0, 100, 1e-2]],
  gated_share: ["Static power of sleeping tiles, %", [0, 99, 1e-2]],
});
const PARTS = [["What runs", 0, 5], ["Array and memories", 5, 9], ["Converters and sleep", 9, 13]];

function start() {
  return { system: "pim-llm", model: "opt-6.7b", context_len: 1024, conventions: "full-system", base: "catalog", cells: "", groups: "own",
    ...book.own["pim-llm"], ...book.adc };
}

function control(key, [label, holds, said = (item) => SAID[item] ?? String(item)]) {
  const id = `explore-${key}`;
  const number = typeof holds[2] === "number" && holds[2] < 1;
  const input = number
    ? element("input", { id, type: "number", min: holds[0], max: holds[1], step: "any", inputmode: "decimal", required: "" })
    : element("select", { id }, ...holds.map((item) => element("option", { value: item }, said(item))));
  input.addEventListener(number ? "input" : "change", () => { read(key, input); show(); });
  return element("p", {}, element("label", { for: id }, label), input);
}

let state;

/* Take what a control holds; a number out of bounds is left as it was, and said. */
function read(key, input) {
  if (input.type === "number") {
    const [low, high, unit] = controls()[key][1], number = Number(input.value), fits = input.value !== "" && number >= low && number <= high;
    input.setCustomValidity(fits ? "" : `wanted ${low} to ${high}`);
    input.setAttribute("aria-invalid", String(!fits));
    if (fits) state[key] = Number((number * unit).toPrecision(12));
    return;
  }
  const kept = controls()[key][1].find((item) => String(item) === input.value);
  state[key] = kept;
  if (key === "system") Object.assign(state, book.own[kept]);
  fit();
}

/* Bring a state to what there is: cells that the system has. */
function fit() {
  if (!book.systems[state.system].includes(state.cells)) state.cells = "";
}

function write() {
  for (const [key, [, holds]] of Object.entries(controls())) {
    const input = at(key);
    if (input.type === "number") { if (document.activeElement !== input) input.value = digits(state[key] / holds[2], 12); }
    else input.value = String(state[key]);
    input.disabled = state.system === "tpu-llm" && (book.fields[key] ?? "").startsWith("pim.");
  }
  const options = (key) => Array.from(at(key).options);
  for (const option of options("cells")) option.disabled = !book.systems[state.system].includes(option.value);
  for (const option of options("groups")) {
    const [own, ...fits] = book.groups[state.model], size = option.value === "own" ? own : Number(option.value);
    option.textContent = option.value === "own" ? `the model's own: ${size || "all"}` : String(size || "all");
    option.disabled = !fits.includes(size);
  }
}

/* ---- the link ---- */

const link = () => new URLSearchParams(Object.entries(state)).toString();

function restore() {
  state = start();
  const given = new URLSearchParams(location.hash.slice(1));
  
  for (const [key, [, holds]] of Object.entries(controls())) {
    const text = given.get(key), number = Number(text);
    const bounded = typeof holds[2] === "number" && holds[2] < 1;
    const found = bounded ? (text && number >= holds[0] * holds[2] && number <= holds[1] * holds[2] ? number : undefined)
      : holds.find((item) => String(item) === text);
    if (found !== undefined) state[key] = found;
  }
  fit();
}

/* ---- what is shown ---- */

const put = (id, ...nodes) => at(id).replaceChildren(...nodes);

function table(caption, head, rows, attributes = {}) {
  return element("table", { class: "explore-table", ...attributes }, element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...head.map((cell) => element("th", { scope: "col" }, cell)))),
    element("tbody", {}, ...rows.map(([first, ...others]) => element("tr", {}, element("th", { scope: "row" }, first),
      ...others.map((cell) => (cell instanceof Node ? cell : element("td", {}, cell)))))));
}

const cell = (key, number, text) => element("td", { "data-key": key, "data-value": number }, text);

function results([one, base]) {
  const speed = base.s / one.s, gain = base.j / one.j - 1;
  put("answer", element("strong", {}, `${digits(speed)} times the rate`), " of TPU-LLM and ",
    element("strong", {}, `${digits(1 + gain)} times the tokens/J`), ` (${percent(gain)}).`);
  const row = (label, key, number, text) => [label, cell(key, number(one), text(number(one))), cell(`base_${key}`, number(base), text(number(base)))];
  put("results", table(`A token in ${one.name} as set above and in ${base.name}`, ["figure", "this design", "TPU-LLM"], [
    row("tokens/s", "tokens_per_s", ({ s }) => 1 / s, digits), row("tokens/J", "tokens_per_j", ({ j }) => 1 / j, digits),
    row("time of a token", "latency_s", ({ s }) => s, (s) => scaled(s, "s")), row("energy of a token", "energy_j", ({ j }) => j, (j) => scaled(j, "J")),
    ["speed-up", cell("speedup", speed, `${digits(speed)}`), "1"], ["energy gain", cell("energy_gain", gain, percent(gain)), "0\u00a0%"],
  ]));
}

/* One bar for each system, its parts numbered as in the table below. */
function stacked(letter, what, unit, pair) {
  const parts = book.parts[letter].filter((part) => pair.some(({ parts: found }) => found[letter][part] > 0));
  const share = (one, part) => (one.parts[letter][part] ?? 0) / one[letter];
  const bars = pair.map((one, i) => element("div", { class: "explore-bar", "aria-hidden": "true" }, element("span", {}, `${i ? "TPU-LLM" : "this design"}: ${scaled(one[letter], unit)}`),
    element("div", {}, ...parts.map((part, i) => {
      const piece = element("i", { class: `part-${i}` }, share(one, part) > 0.035 ? String(i + 1) : "");
      piece.style.width = `${100 * share(one, part)}%`;
      return piece;
    }))));
  const said = (one, part) => { const spent = one.parts[letter][part] ?? 0; return spent > 0 ? `${scaled(spent, unit)} (${portion(share(one, part))})` : "–"; };
  const rows = parts.map((part, i) => [element("span", {}, element("i", { class: `explore-key part-${i}`, "aria-hidden": "true" }, String(i + 1)), ` ${part}`),
    ...pair.map((one) => said(one, part))]);
  return element("figure", { class: "explore-figure" }, element("figcaption", {}, `${what} of a token by part`), ...bars,
    table(`${what} by part`, ["part", "this design", "TPU-LLM"], rows, { "data-parts": letter }));
}

/* Who wins, for each model and context; every cell is a point of the grid. */
function map() {
  const counts = [0, 0, 0, 0];
  const rows = book.axes.model.map((model) => [model, ...book.axes.context_len.map((context_len) => {
    const pair = both({ ...state, model, context_len }), here = model === state.model && context_len === state.context_len;
    if (!pair) return element("td", {}, "–");
    const which = verdict(pair), [sign, word] = WINS[which], [one, base] = pair;
    counts[which]++;
    return element("td", { class: `win-${word}`, "aria-current": here && "true", "data-win": word }, `${sign} ${digits(base.s / one.s, 3)}×`,
      element("br"), percent(base.j / one.j - 1));
  })]);
  const legend = WINS.map(([sign, word, said], i) => element("li", { class: `win-${word}` }, `${sign} ${said}: ${counts[i]}`));
  return [element("p", {}, "This design against TPU-LLM, by how many pairs of model and context. Cells have the speed-up and the gain in tokens/J."),
    element("ul", { class: "explore-legend" }, ...legend),
    element("div", { class: "explore-scroll", tabindex: "0", role: "region", "aria-label": "map of who wins, by model and context" },
      table("Who wins, by model and tokens of context", ["model", ...book.axes.context_len.map(String)], rows, { id: "explore-map" }))];
}

function show() {
  write();
  const pair = both(state);
  if (pair) {
    results(pair);
    put("parts", stacked("s", "Time", "s", pair), stacked("j", "Energy", "J", pair));
    put("command", pair.map(command).join("\n"));
    put("python", python(pair));
  } else {
    ["results", "parts", "command", "python"].forEach((id) => put(id));
    put("answer", "The inputs of this model cannot be divided into such groups; the map shows which models can.");
  }
  put("wins", ...map());
  try { history.replaceState(null, "", `#${link()}`); } catch { location.replace(`#${link()}`); }
  put("link", location.href);
}

function copied(id, label) {
  const button = element("button", { type: "button", class: "explore-button" }, label);
  button.addEventListener("click", async () => {
    const from = at(id);
    try { await navigator.clipboard.writeText(from.textContent); } catch {
      getSelection().selectAllChildren(from);
      document.execCommand("copy");
    }
    at("said").textContent = `${label}: done`;
  });
  return button;
}

function build() {
  const rows = Object.entries(controls()), box = (id) => element("pre", { id: `explore-${id}` });
  const reset = element("button", { type: "button", class: "explore-button" }, "Back to the start");
  reset.addEventListener("click", () => { state = start(); show(); });
  const form = element("form", { "aria-label": "design" }, ...PARTS.map(([legend, from, to]) =>
    element("fieldset", {}, element("legend", {}, legend), ...rows.slice(from, to).map(([key, what]) => control(key, what)))), reset);
  form.addEventListener("submit", (event) => event.preventDefault());
  put("form", form);
  put("take", ...[["link", "Copy link"], ["command", "Copy commands"], ["python", "Copy Python"]].flatMap(([id, label]) =>
    [copied(id, label), box(id)]), element("span", { id: "explore-said", role: "status" }));
}

(async () => {
  try { await load(); } catch (error) { at("form").textContent = `This browser cannot unpack the numbers of this page: ${error}`; return; }
  build();
  restore();
  show();
  addEventListener("hashchange", () => { if (location.hash.includes("model=") && location.hash.slice(1) !== link()) { restore(); show(); } });
  at("form").dataset.ready = "";
})();
})();
