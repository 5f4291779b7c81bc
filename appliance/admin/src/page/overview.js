// The overview: asks the REST interface every two seconds and shows what it says. Everything that comes from the
// appliance enters the page as text, never as markup.
'use strict';

const PERIOD_MS = 2000;
const EVENTS_SHOWN = 30;
const TOKEN = 'palisade-token';

let before = null;       // attachments of the last look, by id, and when that was
let eventsAfter = 0;
let events = [];

// A link that ends in #token=... opens the page with its token; the browser keeps that part to itself.
if (location.hash.startsWith('#token=')) {
  sessionStorage.setItem(TOKEN, decodeURIComponent(location.hash.slice(7)).trim());
  history.replaceState(null, '', location.pathname);
}

const at = (id) => document.getElementById(id);

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

async function ask(path) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? { Authorization: 'Bearer ' + token } : {};
  const answer = await fetch(path, { headers, cache: 'no-store' });
  if (answer.ok) return answer.json();
  const problem = await answer.json().catch(() => ({ message: 'it answers ' + answer.status }));
  throw Object.assign(new Error(problem.message), { status: answer.status, remedy: problem.remedy });
}

async function askAll(path) {
  let items = [];
  let after = '';
  for (;;) {
    const page = await ask(path + '?limit=1000' + after);
    items = items.concat(page.items);
    if (!page.next) return items;
    after = '&after=' + encodeURIComponent(page.next);
  }
}

function size(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
  return (bytes >= 100 || unit === 0 ? Math.round(bytes) : Number(bytes.toPrecision(3))) + ' ' + units[unit];
}

function latency(ns) {
  if (!ns) return '–';
  if (ns < 1e4) return (ns / 1e3).toFixed(1) + ' µs';
  if (ns < 1e6) return Math.round(ns / 1e3) + ' µs';
  if (ns < 1e9) return (ns / 1e6).toFixed(1) + ' ms';
  return (ns / 1e9).toFixed(1) + ' s';
}

const words = (name) => name.replaceAll('_', ' ');

function state(resource) {
  const nodes = Object.entries(resource.state.applied);
  const waits = nodes.filter(([, on]) => on.blocked_on)
    .map(([node, on]) => (nodes.length > 1 ? node + ': ' : '') + on.blocked_on);
  if (waits.length) return element('td', waits.join('; '), 'warn');
  const applied = nodes.length > 0 && nodes.every(([, on]) => on.generation >= resource.state.generation);
  const [elsewhere, here] = [nodes.filter(([, on]) => on.elsewhere), nodes.filter(([, on]) => !on.elsewhere)];
  if (elsewhere.length && here.every(([, on]) => on.generation >= resource.state.generation)) {
    return element('td', 'told by ' + elsewhere.map(([node]) => node).join(', '), 'soft');
  }
  return element('td', applied ? 'applied' : 'being applied', applied ? 'soft' : 'warn');
}

function row(...cells) {
  const made = element('tr');
  for (const cell of cells) made.append(cell instanceof Node ? cell : element('td', cell));
  return made;
}

const number = (value) => element('td', value, 'n');

function fill(id, rows, empty) {
  const body = at(id).tBodies[0];
  const count = at(id + '-count');
  if (count) count.textContent = rows.length || '';
  if (rows.length === 0) {
    const cell = element('td', empty, 'none');
    cell.colSpan = at(id).tHead.rows[0].cells.length;
    rows = [row(cell)];
  }
  body.replaceChildren(...rows);
}

function meter(part, whole, text) {
  const cell = element('td');
  const bar = element('meter');
  bar.max = whole || 1;
  bar.value = part;
  cell.append(bar, text);
  return cell;
}

function showNode(node) {
  const applied = node.applied >= node.generation ? '' : ` (${node.applied} applied)`;
  at('node').textContent = `${node.name} · version ${node.version} · kernel ${node.kernel} · generation ${node.generation}${applied}`;
  document.title = node.name + ' – Palisade';
}

function showHealth(health) {
  const look = { ok: 'ok', degraded: 'warn', failed: 'bad' };
  const says = {
    ok: 'Everything is as agreed on',
    degraded: 'Something needs a look',
    failed: 'Something fails',
  };
  at('health').className = 'health ' + (look[health.overall] || '');
  at('overall').textContent = says[health.overall] || health.overall;
  at('findings').replaceChildren(...health.findings.map((finding) => {
    const item = element('li');
    item.append(element('strong', finding.subject, look[finding.severity]), ' ' + finding.message);
    item.append(element('div', finding.remedy, 'remedy'));
    return item;
  }));
}

// How a node seems to be to the one that shows this, by its heartbeats.
function heard(cluster, member) {
  if (member.name === cluster.node) return element('td', 'answers here', 'ok');
  const look = { alive: 'ok', limping: 'warn', one_way: 'bad', silent: 'bad' }[member.condition] || 'soft';
  const long = member.heard_ms < 1000 ? member.heard_ms + ' ms' : (member.heard_ms / 1000).toFixed(1) + ' s';
  const ago = member.heard_ms === undefined ? (member.condition ? 'never' : '–') : long + ' ago';
  const cell = element('td', member.condition === 'alive' ? 'well' : ago, look);
  if (member.unwell && member.condition !== 'silent') cell.append(element('div', member.unwell, 'remedy'));
  return cell;
}

function showCluster(cluster) {
  let [look, says] = ['ok', `Node ${cluster.leader} leads, and a majority of the voters answers`];
  if (cluster.part === 'alone') says = `Node ${cluster.node} is in no cluster of several`;
  else if (!cluster.has_majority) {
    [look, says] = ['bad', 'No majority of the voters answers, as far as this node can tell: nothing can be changed, and what is shown may be behind'];
  } else if (!cluster.leader) {
    [look, says] = ['warn', 'No leader is known; a majority of the voters answers, and elects one within seconds'];
  }
  at('cluster').className = 'health ' + look;
  at('cluster-says').textContent = says;
  fill('nodes', cluster.members.map((member) => {
    const [is, standing] = { joining: ['joining as ', 'warn'], evicted: ['evicted ', 'bad'] }[member.membership] || ['', ''];
    const vote = member.leads ? 'leads' : member.votes ? 'yes' : 'no';
    return row(member.name, element('td', is + words(member.role), standing),
      element('td', vote, member.leads ? 'ok' : member.votes ? '' : 'soft'), heard(cluster, member),
      number(member.behind ?? '–'), member.failure_domain || '–', (member.addresses || []).join(', ') || '–');
  }), 'None.');
}

function rates(now, old, seconds) {
  const sum = (attachment, field, name) => attachment.operations
    .filter((one) => !name || one.operation === name)
    .reduce((total, one) => total + one[field], 0);
  // After a restart of the daemon counters begin again.
  const more = (field, name) => {
    const [was, is] = [sum(old, field, name), sum(now, field, name)];
    return is >= was ? is - was : is;
  };
  const timed = more('timed');
  return {
    reads: Math.round(more('requests', 'read') / seconds),
    writes: Math.round(more('requests', 'write') / seconds),
    bytes: more('bytes') / seconds,
    latency: timed ? more('latency_ns_sum') / timed : 0,
  };
}

function showAttachments(attachments) {
  const moment = performance.now();
  const guest = { running: 'ok', connected: 'soft', listening: 'soft', closed: 'warn', draining: 'warn' };
  const rows = attachments.map((one) => {
    const old = before && before.byId.get(one.id);
    const rate = old ? rates(one, old, (moment - before.moment) / 1000) : null;
    const errors = one.operations.reduce((total, operation) => total + operation.errors, 0);
    return row(one.id, one.volume, element('td', words(one.connection.state), guest[one.connection.state]),
      number(rate ? rate.reads : '–'), number(rate ? rate.writes : '–'), number(rate ? size(rate.bytes) : '–'),
      number(rate ? latency(rate.latency) : '–'), number(one.in_flight),
      element('td', errors, errors ? 'n bad' : 'n'), state(one));
  });
  before = { moment, byId: new Map(attachments.map((one) => [one.id, one])) };
  fill('attachments', rows, 'None yet. Offer a volume to a virtual machine: palisade attachment create web1 v1');
}

function showVolumes(volumes) {
  fill('volumes', volumes.map((volume) => {
    const disks = [...new Set((volume.layout.extents || []).map((extent) => extent.disk))];
    return row(volume.id, number(size(volume.bytes)), number(volume.block_bytes), disks.join(', '),
      volume.attachments.join(', ') || '–', state(volume));
  }), 'None yet. Create one: palisade volume create v1 10GiB');
}

function showDisks(disks, node) {
  const look = { online: 'ok', closed: 'soft', stalled: 'bad', failing: 'bad', missing: 'bad' };
  fill('disks', disks.map((disk) => {
    const kind = ['file', 'block', 'memory', 'null'].find((name) => name in disk) || '';
    const path = kind && disk[kind].path;
    const medium = element('td', kind + ' ');
    if (path) medium.append(element('code', path));
    const used = disk.bytes - disk.free_bytes;
    return row(disk.id, medium, words(disk.usage), number(size(disk.bytes)), meter(used, disk.bytes, size(used)),
      element('td', words(disk.condition), look[disk.condition]), number(disk.in_flight), state(disk));
  }), 'None yet. Add one: palisade disk add d1 ' + (node.disk_folders.length
    ? `--file ${node.disk_folders[0]}/d1.img --size 10GiB` : '--block /dev/disk/by-id/ID'));
}

function showReactors(reactors) {
  fill('reactors', reactors.map((one) => {
    const busy = one.turns ? one.busy_turns / one.turns : 0;
    return row(one.index, one.core ?? '–', words(one.poll_mode), one.sleeping ? 'asleep' : 'awake', number(one.queues),
      meter(busy, 1, Math.round(100 * busy) + ' %'), number(`${one.slots_used} of ${one.slots}`), number(one.sleeps));
  }), 'None.');
}

// Who commanded it, if anybody did.
function actor(event) {
  if (!event.result) return '';
  const { kind, uid, name } = event.actor;
  if (kind === 'user') return name || 'uid ' + uid;
  return kind === 'token' ? 'token ' + name : kind;
}

async function showEvents() {
  for (;;) {
    const which = eventsAfter ? 'limit=1000&after=' + encodeURIComponent(eventsAfter) : 'last=' + EVENTS_SHOWN;
    const page = await ask('/v1/events?format=json&' + which);
    if (page.items.length === 0) break;
    eventsAfter = page.next;
    events = events.concat(page.items).slice(-EVENTS_SHOWN);
  }
  const look = { warning: 'warn', error: 'bad' };
  fill('events', events.toReversed().map((event) => row(
    new Date(event.unix_ms).toLocaleString(), event.subject, actor(event), element('td', event.message, look[event.severity]),
  )), 'Nothing has happened yet.');
}

async function refresh() {
  try {
    const [node, health, cluster, attachments, volumes, disks, reactors] = await Promise.all([
      ask('/v1/nodes/self'), ask('/v1/nodes/self/health'), ask('/v1/cluster'), askAll('/v1/attachments'), askAll('/v1/volumes'),
      askAll('/v1/disks'), ask('/v1/nodes/self/reactors'),
    ]);
    showNode(node);
    showHealth(health);
    showCluster(cluster);
    showAttachments(attachments);
    showVolumes(volumes);
    showDisks(disks, node);
    showReactors(reactors);
    await showEvents();
    at('token-form').hidden = true;
    at('status').textContent = 'As of ' + new Date().toLocaleTimeString() + '.';
    at('status').className = '';
  } catch (error) {
    at('token-form').hidden = error.status !== 401;
    at('status').textContent = error.status
      ? `The appliance says: ${error.message}. ${error.remedy || ''}`
      : 'The appliance does not answer; what is shown may be old. Trying again.';
    at('status').className = 'bad';
  }
  setTimeout(refresh, PERIOD_MS);
}

at('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, at('token').value);
  at('token').value = '';
});

refresh();
