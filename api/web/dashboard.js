// The page at `/`: what is declared (Gateways and HTTPRoutes watched, routes of other kinds asked for now and then), and
// what proxies and discovery say (asked again and again).
// Everything that comes from the server is put into the page as text, never as markup.
"use strict";

const ROWS_SHOWN = 200;
const POLL_MS = 2000;
const LISTS_EVERY = 5; // polls: services and routes of other kinds are many and change rarely
const RECONNECT_MS = 3000;

// A browser opens six connections to a server, over all its tabs: only what changes most is watched.
const POLLED_ROUTES = document.body.dataset.routes.split(" ").filter((plural) => plural !== "httproutes");

const known = {
  gateways: new Map(), routes: new Map(), polledRoutes: new Map(), proxies: [], rollouts: [], services: [], problems: [],
  servicesLeft: 0,
};
let filter = "";
let wanted = false;

// -- asking -----------------------------------------------------------------------------------------------------

function headers() {
  const token = sessionStorage.getItem("token");
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  if (answer.status === 401) {
    document.getElementById("login").hidden = false;
    say("token needed", "wait");
    throw new Error("token");
  }
  if (!answer.ok && answer.status !== 503) throw new Error(`HTTP ${answer.status}`);
  return answer;
}

async function items(path) {
  return await (await ask(path)).json();
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function poll() {
  for (let round = 0; ; round++) {
    if (!document.hidden) {
      try {
        const ready = await (await ask("/readyz")).json();
        known.proxies = (await items("/api/v1/proxies")).items;
        known.problems = (await items("/api/v1/problems")).items;
        known.rollouts = (await items("/api/v1/rollouts")).items;
        if (round % LISTS_EVERY === 0 || wanted) {
          wanted = false;
          for (const plural of POLLED_ROUTES) known.polledRoutes.set(plural, (await items(`/api/v1/${plural}`)).items);
          const found = await items(`/api/v1/discovered/services?limit=${ROWS_SHOWN}&search=${encodeURIComponent(filter)}`);
          known.services = found.items;
          known.servicesLeft = found.metadata.remainingItemCount;
        }
        document.getElementById("login").hidden = true;
        if (ready.status === "ready") say("live", "good");
        else say(`waiting for ${ready.waitingFor.join(", ")}`, "wait");
      } catch (error) {
        if (error.message !== "token") say("not reachable", "bad");
      }
      draw();
    }
    await pause(POLL_MS);
  }
}

const turned = () => new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));

// A tab that nobody looks at lets go of its connections, or the third one would get none.
async function watch(plural, into) {
  for (let last = ""; ; ) {
    while (document.hidden) await turned();
    const left = new AbortController();
    turned().then(() => left.abort());
    try {
      const options = { headers: last ? { "Last-Event-ID": last } : {}, signal: left.signal };
      const answer = await ask(`/api/v1/${plural}?watch=true`, options);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ; ) {
        const { value, done } = await reader.read();
        if (done) break;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) last = take(block, into, last);
      }
    } catch { /* the poll says what is wrong */ }
    if (!document.hidden) await pause(RECONNECT_MS);
  }
}

function take(block, into, last) {
  const fields = {};
  for (const line of block.split("\n")) {
    const at = line.indexOf(": ");
    if (at > 0) fields[line.slice(0, at)] = line.slice(at + 2);
  }
  if (!fields.event) return last;
  const value = JSON.parse(fields.data);
  if (fields.event === "RESYNC") into.clear();
  else if (fields.event === "DELETED") into.delete(nameOf(value));
  else if (fields.event !== "SYNCED") into.set(nameOf(value), value);
  if (fields.event === "SYNCED") draw();
  return fields.event === "RESYNC" ? "" : fields.id ?? last;
}

const nameOf = (value) => `${value.metadata.namespace ?? ""}/${value.metadata.name}`;

// -- drawing ----------------------------------------------------------------------------------------------------

function element(tag, className, ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content.filter((one) => one !== null && one !== ""));
  return made;
}

const pill = (text, kind) => element("span", `pill ${kind}`, text);
const cell = (...content) => element("td", "", ...content);

function heading(name, sub = "") {
  const made = element("th", "", name, sub ? element("span", "sub", sub) : "");
  made.scope = "row";
  return made;
}

function say(text, kind) {
  const state = document.getElementById("state");
  if (state.textContent !== text) state.textContent = text;
  state.className = `pill ${kind}`;
}

const drawn = new Map();

function fill(section, rows, left = 0) {
  const total = rows.length + left;
  const body = document.querySelector(`[data-rows=${section}]`);
  const shown = rows.slice(0, ROWS_SHOWN);
  const mark = JSON.stringify([shown.map((row) => row.value), total]);
  if (drawn.get(section) === mark) return; // nothing new: keep the reader's selection and place
  drawn.set(section, mark);
  const made = shown.map((row) => row.draw(row.value));
  if (total > shown.length) {
    const more = `… and ${total - shown.length} more; filter by name to see them`;
    const line = element(body.tagName === "UL" ? "li" : "td", "empty", more);
    if (line.tagName === "TD") line.colSpan = 9;
    made.push(line.tagName === "TD" ? element("tr", "", line) : line);
  }
  body.replaceChildren(...made);
  document.querySelector(`[data-empty=${section}]`).hidden = total > 0;
  const table = body.closest("table");
  if (table) table.hidden = total === 0;
}

function count(section, number, alarm = false) {
  const at = document.querySelector(`[data-count=${section}]`);
  at.textContent = number.toLocaleString("en");
  at.parentElement.classList.toggle("alarm", alarm);
}

const matching = (values, name, draw) =>
  values.filter((value) => name(value).includes(filter)).map((value) => ({ value, draw }));

function draw() {
  const sorted = (values) => [...values].sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
  const routes = [...known.routes.values(), ...[...known.polledRoutes.values()].flat()];
  const rejecting = known.proxies.some((proxy) => Object.values(proxy.types).some((type) => type.status === "ERROR"));
  count("proxies", known.proxies.length, rejecting);
  count("gateways", known.gateways.size);
  count("routes", routes.length);
  count("rollouts", known.rollouts.length);
  count("services", known.services.length + known.servicesLeft);
  count("problems", known.problems.length, known.problems.length > 0);
  fill("proxies", matching(known.proxies, (proxy) => proxy.node, proxyRow));
  fill("gateways", matching(sorted(known.gateways.values()), nameOf, gatewayRow));
  fill("routes", matching(sorted(routes), nameOf, routeRow));
  fill("rollouts", matching(sorted(known.rollouts), nameOf, rolloutRow));
  fill("services", matching(known.services, (one) => `${one.namespace}/${one.name}`, serviceRow), known.servicesLeft);
  fill("problems", known.problems.map((value) => ({ value, draw: problemRow })));
}

const TYPE_STATES = {
  SYNCED: ["synced", "good"], STALE: ["stale", "wait"], ERROR: ["rejected", "bad"], NOT_SENT: ["not sent", ""],
};

function proxyRow(proxy) {
  const holds = cell();
  const order = ["LDS", "RDS", "SRDS", "ECDS", "CDS", "EDS", "SDS"];
  const types = Object.entries(proxy.types).sort((a, b) => order.indexOf(a[0]) - order.indexOf(b[0]));
  for (const [name, type] of types) {
    const [word, kind] = TYPE_STATES[type.status] ?? [type.status, ""];
    const one = pill(`${name} ${word}`, kind);
    one.title = `${type.acked} of ${type.sent} resources acknowledged`;
    holds.append(one);
  }
  for (const [name, type] of types) {
    if (type.rejected) holds.append(element("p", "words mono", `${name}: ${type.rejected}`));
    for (const [left, fields] of Object.entries(type.leftOut ?? {}))
      holds.append(element("p", "words mono", `${name}: ${left} is not sent, too new: ${fields.join(", ")}`));
  }
  const serves = proxy.name ? `${proxy.namespace}/${proxy.name}` : proxy.namespace;
  const since = proxy.connectedSince.slice(0, 19).replace("T", " ");
  return element("tr", "", heading(proxy.node), cell(`${proxy.kind} `, element("span", "sub", serves)),
    cell(since, element("span", "sub", proxy.protocol ?? "delta")), cell(proxy.version || "–"), holds);
}

function conditions(list, wantedTypes) {
  const made = [];
  for (const condition of list ?? []) {
    const good = condition.status === "True";
    if (!wantedTypes.includes(condition.type)) continue;
    const one = pill(good ? condition.type : `${condition.type}: ${condition.reason}`, good ? "good" : "bad");
    if (condition.message) one.title = condition.message;
    made.push(one);
    if (!good && condition.message) made.push(element("span", "sub", condition.message));
  }
  return made;
}

function origin(value) {
  return cell(value.origin.location || value.origin.source, value.origin.stale ? pill("stale", "wait") : "");
}

function gatewayRow(value) {
  const listeners = cell(...(value.spec.listeners ?? []).map((one) =>
    element("span", "sub", `${one.name}: ${one.protocol} ${one.port}${one.hostname ? ` ${one.hostname}` : ""}`)));
  const attached = (value.status?.listeners ?? []).reduce((sum, one) => sum + (one.attachedRoutes ?? 0), 0);
  const state = conditions(value.status?.conditions, ["Accepted", "Programmed"]);
  return element("tr", "", heading(nameOf(value), value.spec.gatewayClassName), listeners, cell(`${attached}`),
    cell(...(state.length ? state : [pill("not known yet", "wait")])), origin(value));
}

function backends(rule) {
  const refs = rule.backendRefs ?? [];
  const total = refs.reduce((sum, ref) => sum + (ref.weight ?? 1), 0);
  return refs.map((ref) => {
    const share = total ? (100 * (ref.weight ?? 1)) / total : 0;
    const bar = element("progress", "");
    bar.max = 100;
    bar.value = share;
    bar.setAttribute("aria-label", `share of ${ref.name}`);
    const name = `${ref.kind && ref.kind !== "Service" ? `${ref.kind} ` : ""}${ref.name}${ref.port ? `:${ref.port}` : ""}`;
    if (refs.length === 1) return element("li", "", element("span", "", name));
    return element("li", "", element("span", "", name), element("span", "sub", `${Math.round(share * 10) / 10} %`), bar);
  });
}

function hostnames(value) {
  if (value.kind === "TCPRoute" || value.kind === "UDPRoute") return "–"; // their protocols know of no names
  return (value.spec.hostnames ?? ["any"]).join(", ");
}

function routeRow(value) {
  const spec = value.spec;
  const parents = cell(...(spec.parentRefs ?? []).map((ref) =>
    element("span", "sub", `${ref.kind && ref.kind !== "Gateway" ? `${ref.kind} ` : ""}${ref.name}${ref.sectionName ? `/${ref.sectionName}` : ""}`)));
  const list = element("ul", "backends", ...(spec.rules ?? []).flatMap(backends));
  const state = (value.status?.parents ?? []).flatMap((one) =>
    conditions(one.conditions, ["Accepted", "ResolvedRefs", "Programmed"]));
  return element("tr", "", heading(nameOf(value), value.kind), cell(hostnames(value)), parents, cell(list),
    cell(...(state.length ? state : [pill("not known yet", "wait")])), origin(value));
}

// What each command asks before it is given; nothing where it can be taken back.
const COMMANDS = {
  pause: "", resume: "", promote: "Give the canary all requests now, whatever its checks say?",
  abort: "Give the stable backend all requests now?",
};
const POSSIBLE = {
  Pending: ["pause", "abort"], Progressing: ["pause", "resume", "promote", "abort"], Paused: ["resume", "promote", "abort"],
  Promoted: ["abort"], RolledBack: [],
};
const PHASES = { Promoted: "good", RolledBack: "bad", Paused: "wait" };

async function order(value, command) {
  const said = document.getElementById("refused");
  const { namespace, name } = value.metadata;
  if (COMMANDS[command] && !confirm(`${nameOf(value)}: ${COMMANDS[command]}`)) return;
  said.hidden = true;
  try {
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/rollouts/${encodeURIComponent(name)}/${command}`;
    const answer = await fetch(path, { method: "POST", headers: headers() });
    const told = await answer.json();
    if (!answer.ok) throw new Error([told.detail ?? told.title, told.fix].filter(Boolean).join(" "));
    known.rollouts = known.rollouts.map((one) => (nameOf(one) === nameOf(value) ? told : one));
    draw();
  } catch (error) {
    said.textContent = `${command} ${nameOf(value)}: ${error.message}`;
    said.hidden = false;
  }
}

function rolloutRow(value) {
  const { spec, status } = value;
  const state = status?.rollout ?? { phase: "Pending", step: 0, weight: 0, message: "" };
  const bar = element("progress", "");
  bar.max = 100;
  bar.value = state.weight;
  bar.setAttribute("aria-label", `share of ${spec.canary.name}`);
  const share = element("ul", "backends", element("li", "", element("span", "", spec.canary.name),
    element("span", "sub", `${state.weight} %`), bar));
  const judged = ["canary", "stable"].filter((one) => state[one]).map((one) =>
    element("span", "sub", `${one}: ${state[one].succeeded} good, ${state[one].failed} failed`));
  const wrong = (status?.conditions ?? []).filter((one) => one.type !== "Progressing" && one.status === "False");
  const buttons = (POSSIBLE[state.phase] ?? []).map((command) => {
    const button = element("button", "", command);
    button.type = "button";
    button.setAttribute("aria-label", `${command} ${nameOf(value)}`);
    button.addEventListener("click", () => order(value, command));
    return button;
  });
  return element("tr", "", heading(nameOf(value), `${spec.targetRef.kind} ${spec.targetRef.name}`),
    cell(pill(state.phase, PHASES[state.phase] ?? ""), element("span", "sub", `step ${state.step} of ${spec.steps.length}`)),
    cell(share), cell(...judged), cell(state.message, ...wrong.map((one) => element("span", "sub", one.message))),
    cell(...buttons));
}

function serviceRow(value) {
  const ports = value.ports.map((port) => element("span", "sub", `${port.port} ${port.protocol ?? ""} ${port.name ?? ""}`));
  const well = value.healthy > 0 ? "good" : "bad";
  return element("tr", "", heading(`${value.namespace}/${value.name}`), cell(...ports),
    cell(pill(value.endpoints ? `${value.healthy} of ${value.endpoints} usable` : "none", well)),
    cell(value.sources.join(", "), value.stale ? pill("stale", "wait") : ""));
}

function problemRow(value) {
  const problem = value.problem;
  const where = [problem.file && `${problem.file}:${problem.line ?? ""}`, problem.path].filter(Boolean).join(" ");
  return element("li", "", pill(problem.level, problem.level === "error" ? "bad" : "wait"), element("b", "", value.source), " ",
    element("span", "mono", where), element("div", "", problem.message),
    problem.fix ? element("span", "sub", `Fix: ${problem.fix}`) : "");
}

// -- beginning --------------------------------------------------------------------------------------------------

document.getElementById("filter").addEventListener("input", (event) => {
  filter = event.target.value.trim();
  wanted = true;
  draw();
});
document.getElementById("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", document.getElementById("token").value.trim());
  document.getElementById("token").value = "";
  document.getElementById("login").hidden = true;
});
poll();
watch("gateways", known.gateways);
watch("httproutes", known.routes);
