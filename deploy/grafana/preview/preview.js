// Draws the dashboard's JSON from a Prometheus: what its panels say, without Grafana. Not a replacement: no
// interaction, and only the panel kinds and options that the dashboard uses.
//
// ?prometheus=http://127.0.0.1:9090 (required), &dashboard=FILE, &minutes=30, &window=1m (the rate interval)

import { bars, graph, stat, table } from './draw.js';

const params = new URLSearchParams(location.search);
const prometheus = params.get('prometheus');
const minutes = Number(params.get('minutes') ?? 30);
const end = Number(params.get('end') ?? Math.floor(Date.now() / 1000));
const start = end - minutes * 60;
const step = Math.max(1, Math.ceil((end - start) / 240));
const windows = { $__rate_interval: params.get('window') ?? '1m', $__interval: `${step}s`, $__range: `${minutes}m` };

async function ask(path, query) {
  const answer = await fetch(`${prometheus}/api/v1/${path}?${new URLSearchParams(query)}`);
  const { status, data, error } = await answer.json();
  if (status !== 'success') throw new Error(error);
  return data.result;
}

// What Grafana sends with every variable on All.
function substitute(expr, variables) {
  for (const [name, value] of Object.entries(windows)) expr = expr.replaceAll(name, value);
  for (const { name } of variables) expr = expr.replaceAll(`$${name}`, '.*');
  return expr;
}

async function series({ expr, legendFormat, instant }, variables) {
  const query = substitute(expr, variables);
  const found = instant
    ? await ask('query', { query, time: end })
    : await ask('query_range', { query, start, end, step });
  return found.map(({ metric, value, values }) => ({
    metric,
    name: legendFormat.replace(/{{(\w+)}}/g, (_, label) => metric[label] ?? ''),
    points: (values ?? [value]).map(([time, text]) => [Number(time), Number(text)]),
  }));
}

// The dashboard's overrides for one series, as a plain object of dotted names.
function look({ defaults, overrides }, name) {
  const chosen = { ...Object.fromEntries(Object.entries(defaults.custom ?? {}).map(([k, v]) => [`custom.${k}`, v])) };
  for (const { matcher, properties } of overrides) {
    if (new RegExp(matcher.options.slice(1, -1)).test(name)) for (const { id, value } of properties) chosen[id] = value;
  }
  return chosen;
}

const escaped = (text) => text.replace(/[&<>]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[sign]);

function prose(markdown) {
  const inline = escaped(markdown)
    .replace(/\*\*(.+?)\*\*/gs, '<b>$1</b>')
    .replace(/\*(.+?)\*/gs, '<i>$1</i>')
    .replace(/`(.+?)`/g, '<code>$1</code>');
  return `<div class="text">${inline.split('\n\n').map((part) => `<p>${part}</p>`).join('')}</div>`;
}

const KINDS = { timeseries: graph, stat, bargauge: bars, table };

async function answers(panel, variables) {
  const found = (await Promise.all((panel.targets ?? []).map((target) => series(target, variables)))).flat();
  found.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  for (const each of found) each.look = look(panel.fieldConfig, each.name);
  return found;
}

function fill(body, panel, found) {
  if (panel.type === 'text') body.innerHTML = prose(panel.options.content);
  else if (found.length) KINDS[panel.type](body, panel, found, { start, end, step, marks });
  else body.innerHTML = `<div class="empty">${panel.fieldConfig.defaults.noValue ?? 'No data'}</div>`;
}

function place(panel) {
  const box = document.createElement('section');
  const { x, y, w, h } = panel.gridPos;
  box.style.gridArea = `${y + 1} / ${x + 1} / span ${h} / span ${w}`;
  box.className = panel.type === 'row' ? 'row' : 'panel';
  document.querySelector('main').append(box);
  if (panel.type === 'row') {
    box.textContent = panel.title;
    return null;
  }
  box.innerHTML = `<h2>${escaped(panel.title)}</h2><div class="body"></div>`;
  return box.querySelector('.body');
}

const dashboard = await (await fetch(params.get('dashboard') ?? '../dashboards/pointsman.json')).json();
const variables = dashboard.templating.list;
document.querySelector('h1').textContent = dashboard.title;
document.querySelector('header p').textContent =
  `last ${minutes} minutes, ${new Date(end * 1000).toISOString().slice(0, 16).replace('T', ' ')} UTC`;

const marks = [];
for (const { expr } of dashboard.annotations.list) {
  const query = substitute(expr, variables);
  for (const { values } of await ask('query_range', { query, start, end, step })) {
    // Consecutive points are one event seen through a window: its beginning is the event.
    marks.push(...values.map(([t]) => t).filter((t, i, all) => i === 0 || t - all[i - 1] > step));
  }
}

// Ask at once, draw in the dashboard's order: colours are given to names as they come.
const asked = dashboard.panels.map((panel) => answers(panel, variables).catch((error) => error));
const failures = [];
for (const [i, panel] of dashboard.panels.entries()) {
  const body = place(panel);
  if (!body) continue;
  try {
    const found = await asked[i];
    if (found instanceof Error) throw found;
    fill(body, panel, found);
  } catch (error) {
    failures.push(`${panel.title}: ${error.message}`);
  }
}
document.documentElement.dataset.state = failures.length ? `failed: ${failures.join('; ')}` : 'drawn';
