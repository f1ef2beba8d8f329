// The page: a copy of the aggregator's document, kept up to date by merge patches, and what it looks like.
import { Bars, Line } from "./charts.js";

const $ = (id) => document.getElementById(id);
const FIRST_ROWS = 60;
const RETRY_MS = 3000;
const HERE_S = 15; // a node that was heard so recently is simply there

let tree = null;
let skew = 0; // the aggregator's clock less ours, in seconds
let heard = 0;
let live = false;
let overBytes = false;
let most = FIRST_ROWS;
let wanted = null;
let sorted = { key: null, down: false };
let drawing = false;

// Words

export function size(count) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (count < 1000 || unit === "GB") return `${unit === "B" ? count.toFixed(0) : count.toPrecision(3)} ${unit}`;
    count /= 1000;
  }
}
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const seconds = (s) => (s < 0.001 ? "< 1 ms" : s < 0.1 ? `${(1000 * s).toPrecision(2)} ms` : s < 10 ? `${s.toFixed(2)} s` : s < 100 ? `${s.toFixed(1)} s` : span(s));
const span = (s) => (s < 90 ? `${Math.round(s)} s` : s < 5400 ? `${Math.round(s / 60)} min` : s < 129600 ? `${(s / 3600).toFixed(1)} h` : `${Math.round(s / 86400)} d`);
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
const now = () => Date.now() / 1000 + skew;
const middle = (values) => [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)];

function put(id, words, kind) {
  const at = $(id);
  if (at.textContent !== words) at.textContent = words;
  if (kind !== undefined && at.dataset.kind !== kind) {
    at.dataset.kind = kind;
    at.className = kind;
  }
}
function banner(id, words) {
  $(id).hidden = !words;
  put(id, words ?? "");
}

// The document

export function merge(into, patch) {
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete into[key];
    else if (typeof value === "object" && !Array.isArray(value)) {
      const inner = into[key];
      into[key] = merge(typeof inner === "object" && inner !== null && !Array.isArray(inner) ? inner : {}, value);
    } else into[key] = value;
  }
  return into;
}

function listen() {
  const source = new EventSource("events");
  const take = (event, whole) => {
    const told = JSON.parse(event.data);
    skew = told.at - Date.now() / 1000;
    tree = merge(whole ? { head: {}, nodes: {}, story: {} } : tree, told.tree);
    heard = Date.now();
    live = true;
    draw();
  };
  source.addEventListener("whole", (event) => take(event, true));
  source.addEventListener("change", (event) => tree && take(event, false));
  source.addEventListener("error", () => {
    live = false;
    draw();
    // Some browsers try again by themselves, others give up when nobody listens.
    source.close();
    setTimeout(listen, RETRY_MS);
  });
}

// Drawing

const charts = {
  accuracy: new Line($("chart-accuracy"), "Accuracy"),
  bytes: new Bars($("chart-bytes"), "Bytes per round"),
  rounds: new Bars($("chart-rounds"), "Round time"),
  staleness: new Bars($("chart-staleness"), "Staleness of accepted updates"),
  shares: new Bars($("chart-shares"), "Nodes by share of versions that they took part in"),
};

function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    connection();
    if (!tree?.head.federation) return;
    head(tree.head);
    facts(tree.head, tree.story);
    series(tree.head, tree.story);
    fleet();
  });
}

function connection() {
  const over = tree && ["finishing", "done"].includes(tree.head.phase);
  const words = live ? "live" : !tree ? "connecting" : over ? "finished" : "no answer, trying again";
  put("link-words", words);
  $("link").className = `link ${live ? "live" : over || !tree ? "" : "lost"}`;
  document.body.classList.toggle("stale", Boolean(tree) && !live && !over);
  put("ended", tree && !live ? `As of ${new Date(heard).toLocaleTimeString()}.` : "");
}

function head(it) {
  document.title = `${it.federation} · version ${it.version}`;
  put("federation", it.federation);
  put("version", String(it.version));
  put("versions", it.versions ? ` of ${it.versions}` : "");
  put("reason", it.reason);
  banner("caveat", it.caveat);
  banner("problem", it.problem);
  banner("muted", it.muted.length ? `Not listened to: ${it.muted.map((one) => `${one.name} (${one.reason})`).join(", ")}` : null);
  $("stays").hidden = !it.stays;
  put("stays", it.stays ? `stays on each node: ${it.stays}` : "");
  const over = ["finishing", "done"].includes(it.phase);
  document.querySelector(".round").classList.toggle("over", over);
  const whole = Math.max(it.goal, it.have, it.quorum, 1);
  $("fill").style.width = `${(100 * it.have) / whole}%`;
  $("quorum").style.left = `${(100 * it.quorum) / whole}%`;
  $("quorum").hidden = it.quorum >= whole;
  $("meter").setAttribute("aria-label", `${it.have} of ${it.goal} updates, quorum ${it.quorum}`);
  put("have", `${it.have} of ${plural(it.goal, "update")}${it.quorum < whole ? `, quorum ${it.quorum}` : ""}`);
  clock();
  const chips = [
    ...it.waiting_for.map((name) => [name, ""]),
    ...(it.waiting > it.waiting_for.length ? [[`and ${it.waiting - it.waiting_for.length} more`, "rest"]] : []),
    ...it.gone.map((name) => [`${name} gone`, "gone"]),
    ...(it.lost > it.gone.length ? [[`and ${it.lost - it.gone.length} more gone`, "rest"]] : []),
  ];
  const key = JSON.stringify(chips);
  if ($("waiting").dataset.key !== key) {
    $("waiting").dataset.key = key;
    $("waiting").replaceChildren(
      ...chips.map(([words, kind]) => {
        const chip = document.createElement("span");
        chip.textContent = words;
        chip.className = kind;
        return chip;
      }),
    );
  }
}

function clock() {
  if (!tree?.head.federation) return;
  const { opened_at, deadline_at } = tree.head;
  const frozen = live ? now() : heard / 1000 + skew;
  put("open", opened_at === undefined ? "" : `open for ${span(Math.max(0, frozen - opened_at))}`);
  put("deadline", deadline_at === undefined ? "" : `${span(Math.max(0, deadline_at - frozen))} left at most`);
}

function facts(it, story) {
  const known = it.accuracy !== undefined;
  put("accuracy", known ? percent(it.accuracy) : "–");
  const gain = known && it.zero_shot !== undefined ? 100 * (it.accuracy - it.zero_shot) : undefined;
  const personal = it.personal === undefined ? "" : `, personal ${percent(it.personal)}`;
  put("gain", gain === undefined ? "" : `${gain >= 0 ? "+" : "−"}${Math.abs(gain).toFixed(1)} on zero-shot${personal}`, `more ${gain > 0 ? "good" : gain < 0 ? "bad" : ""}`);
  const away = (it.states.gone ?? 0) + (it.states.finished ?? 0);
  put("here", (it.known - away).toLocaleString("en"));
  const gone = ["gone", "finished"].filter((state) => it.states[state]).map((state) => `${it.states[state].toLocaleString("en")} ${state}`);
  put("away", away ? gone.join(", ") : `of ${it.known.toLocaleString("en")} known`, `more ${it.states.gone ? "bad" : ""}`);
  const accepted = story.verdicts.accepted ?? 0;
  const refused = Object.entries(story.verdicts).filter(([code]) => code !== "accepted");
  put("accepted", accepted.toLocaleString("en"));
  put("refused", refused.length ? refused.map(([code, count]) => `${count} ${code.replaceAll("_", " ")}`).join(", ") : "none refused", `more ${refused.length ? "bad" : ""}`);
  put("bytes", size(it.up + it.down));
  put("ways", `${size(it.up)} up, ${size(it.down)} down`);
  const took = Object.values(story.rounds).map((one) => one[2]);
  put("takes", took.length ? seconds(middle(took)) : "–");
  put("slowest", took.length ? `median of ${took.length}, longest ${seconds(Math.max(...took))}` : "");
}

function series(it, story) {
  const rounds = Object.entries(story.rounds).map(([version, one]) => [Number(version), ...one]);
  rounds.sort((a, b) => a[0] - b[0]);
  const total = new Map([[0, 0], ...rounds.map((one) => [one[0], one[6]])]);
  const measured = Object.entries(story.accuracy)
    .map(([version, mean]) => [Number(version), mean])
    .filter(([version]) => total.has(version))
    .sort((a, b) => a[0] - b[0]);
  charts.accuracy.show({
    points: measured.map(([version, mean]) => [
      overBytes ? total.get(version) : version, mean, `version ${version}\n${percent(mean)} after ${size(total.get(version))}`,
    ]),
    base: it.zero_shot,
    baseName: "zero-shot",
    whole: false,
    x: overBytes ? size : (at) => (Number.isInteger(at) ? String(at) : ""),
    y: (at) => percent(at, 0),
    none: "No node has reported yet",
    told: measured.length ? `${percent(measured.at(-1)[1])} at version ${measured.at(-1)[0]}` : "",
  });
  charts.bytes.show({
    points: rounds.map(([version, updates, , , up, down]) => [String(version), [up, down], `version ${version}, ${plural(updates, "update")}\n${size(up)} up, ${size(down)} down`]),
    y: (at) => (at ? size(at) : "0"),
    told: rounds.length ? `${size(rounds.at(-1)[4] + rounds.at(-1)[5])} in the last` : "",
  });
  charts.rounds.show({
    points: rounds.map(([version, updates, invited, open, , , , cause]) => [String(version), [open], `version ${version}: ${cause}\n${seconds(open)}, ${updates} of ${invited} invited`]),
    y: (at) => String(Number(at.toPrecision(3))),
    told: rounds.length ? `${seconds(rounds.at(-1)[3])} the last` : "",
  });
  const behind = Object.entries(story.staleness).map(([at, count]) => [Number(at), count]);
  const far = Math.max(3, ...behind.map(([at]) => at));
  const counts = new Map(behind);
  charts.staleness.show({
    points: behind.length ? Array.from({ length: far + 1 }, (_, at) => [String(at), [counts.get(at) ?? 0], `${at} behind\n${plural(counts.get(at) ?? 0, "update")}`]) : [],
    y: (at) => at.toLocaleString("en"),
    whole: true,
    labelWidth: 18,
    told: behind.map(([at, count]) => `${count} updates ${at} behind`).join(", "),
  });
  const shares = Object.entries(story.shares).map(([at, count]) => [Number(at), count]);
  charts.shares.show({
    points: shares.some(([, count]) => count) ? shares.map(([at, count]) => [`${at * 10}`, [count], `${plural(count, "node")} in ${at * 10} to ${at * 10 + 10} %\nof ${plural(it.version, "version")}`]) : [],
    y: (at) => at.toLocaleString("en"),
    whole: true,
    labelWidth: 26,
    told: shares.filter(([, count]) => count).map(([at, count]) => `${count} nodes in ${at * 10} to ${at * 10 + 10} %`).join(", "),
  });
}

// The fleet

const COLUMNS = [
  { key: "name", words: "Node", text: (it) => it.name },
  { key: "state", words: "State", text: (it) => it.state + (it.progress ? ` ${it.progress}` : ""), kind: (it) => it.state },
  { key: "version", words: "Version", text: (it) => it.version ?? "–", down: true },
  { key: "staleness", words: "Staleness", text: (it) => it.staleness, kind: (it) => (it.staleness > 0 ? "behind" : ""), down: true },
  { key: "accuracy", words: "Accuracy", text: (it) => (it.accuracy === undefined ? "–" : percent(it.accuracy) + (it.personal === undefined ? "" : ` / ${percent(it.personal)}`)), down: true },
  { key: "taken", words: "Updates", text: (it) => it.taken, down: true },
  { key: "examples", words: "Examples", text: (it) => it.examples.toLocaleString("en"), down: true },
  { key: "up", words: "Up", text: (it) => size(it.up), down: true },
  { key: "down", words: "Down", text: (it) => size(it.down), down: true },
  { key: "seen", words: "Last seen", text: (it) => seen(it), down: true },
  { key: "note", words: "Note", text: (it) => it.note ?? (it.awaited ? "awaited" : ""), kind: (it) => (it.note && it.state !== "finished" ? "" : "mild") },
];

function seen(it) {
  const ago = (live ? now() : heard / 1000 + skew) - it.seen;
  return ago < HERE_S ? "now" : `${span(ago)} ago`;
}

function trouble(it) {
  if (it.note && it.state !== "finished") return it.state === "gone" ? 1 : 0;
  return it.state === "gone" ? 1 : it.awaited ? 2 : it.staleness > 0 ? 3 : 4;
}

const byName = (a, b) => a.name.localeCompare(b.name, "en", { numeric: true });

function order(rows) {
  const { key, down } = sorted;
  if (key === null) return rows.sort((a, b) => (rows.length > FIRST_ROWS ? trouble(a) - trouble(b) : 0) || byName(a, b));
  const value = (it) => it[key] ?? (typeof it.name === "string" && key === "note" ? "" : -1);
  const compare = (a, b) => (typeof value(a) === "string" ? String(value(a)).localeCompare(String(value(b)), "en", { numeric: true }) : value(a) - value(b));
  return rows.sort((a, b) => (down ? -1 : 1) * compare(a, b) || byName(a, b));
}

function fleet() {
  const all = Object.values(tree.nodes);
  const text = $("search").value.trim().toLowerCase();
  const rows = order(all.filter((it) => (!wanted || it.state === wanted) && (!text || it.name.toLowerCase().includes(text))));
  states();
  const body = $("rows");
  const shown = rows.slice(0, most);
  while (body.rows.length > shown.length) body.deleteRow(-1);
  while (body.rows.length < shown.length) {
    const row = body.insertRow();
    for (const column of COLUMNS) row.insertCell().className = `c-${column.key}`;
  }
  const versions = Math.max(1, tree.head.version);
  shown.forEach((it, at) => {
    const cells = body.rows[at].cells;
    COLUMNS.forEach((column, place) => {
      const cell = cells[place];
      const words = String(column.text(it));
      if (cell.textContent !== words) cell.textContent = words;
      const kind = `c-${column.key} ${column.kind?.(it) ?? ""}`.trim();
      if (cell.className !== kind) cell.className = kind;
      if (column.key === "taken") cell.style.setProperty("--part", Math.min(1, it.taken / versions).toFixed(3));
      if (column.key === "name") cell.title = it.name;
    });
  });
  const unsent = tree.head.known - all.length;
  put("shown", `${shown.length.toLocaleString("en")} of ${plural(rows.length, "node")}${rows.length < all.length ? ` found among ${all.length.toLocaleString("en")}` : ""}${unsent > 0 ? `; ${unsent.toLocaleString("en")} more are not sent here, see fedmq status` : ""}`);
  $("more").hidden = shown.length === rows.length;
}

function states() {
  const counts = Object.entries(tree.head.states).sort();
  const key = JSON.stringify([counts, wanted]);
  if ($("states").dataset.key === key) return;
  $("states").dataset.key = key;
  const focused = document.activeElement?.dataset?.state;
  $("states").replaceChildren(
    ...[["all", tree.head.known], ...counts].map(([state, count]) => {
      const button = document.createElement("button");
      button.dataset.state = state;
      button.setAttribute("aria-pressed", String((wanted ?? "all") === state));
      button.append(state, Object.assign(document.createElement("b"), { textContent: count.toLocaleString("en") }));
      button.onclick = () => {
        wanted = state === "all" || wanted === state ? null : state;
        most = FIRST_ROWS;
        draw();
      };
      return button;
    }),
  );
  if (focused) $("states").querySelector(`[data-state="${CSS.escape(focused)}"]`)?.focus();
}

for (const column of COLUMNS) {
  const cell = document.createElement("th");
  cell.className = `c-${column.key}`;
  cell.scope = "col";
  const button = document.createElement("button");
  button.textContent = column.words;
  button.onclick = () => {
    sorted = sorted.key === column.key ? { key: column.key, down: !sorted.down } : { key: column.key, down: Boolean(column.down) };
    for (const other of $("columns").cells) other.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
    draw();
  };
  cell.append(button);
  $("columns").append(cell);
}
for (const [id, bytes] of [["by-version", false], ["by-bytes", true]]) {
  $(id).onclick = () => {
    overBytes = bytes;
    $("by-version").setAttribute("aria-pressed", String(!bytes));
    $("by-bytes").setAttribute("aria-pressed", String(bytes));
    draw();
  };
}
$("search").oninput = () => {
  most = FIRST_ROWS;
  draw();
};
$("more").onclick = () => {
  most += 2 * FIRST_ROWS;
  draw();
};
setInterval(() => {
  if (tree) clock();
}, 500);
setInterval(() => tree && draw(), 5000); // "last seen" grows old by itself
listen();
