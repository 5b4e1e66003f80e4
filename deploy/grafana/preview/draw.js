// The panel kinds: each takes an element, the panel, its series and the time shown, and fills the element.

const PALETTE = ['#73bf69', '#5794f2', '#f2cc0c', '#ff9830', '#b877d9', '#56c8d8', '#ff7383', '#8ab8ff', '#c0d72f', '#e08fc9',
  '#3fa796', '#d9a066'];
const NAMED = { green: '#73bf69', yellow: '#f2cc0c', red: '#f2495c', blue: '#6ea6ff', orange: '#ff9830', purple: '#b877d9' };
const colours = new Map();

// One colour a name, from panel to panel; the quantiles of one thing share theirs and differ by line style.
function colourOf({ name, look }) {
  if (look.color?.fixedColor) return NAMED[look.color.fixedColor] ?? look.color.fixedColor;
  const key = name.replace(/^p\d+ |, naive$/, '');
  if (!colours.has(key)) colours.set(key, PALETTE[colours.size % PALETTE.length]);
  return colours.get(key);
}

const significant = (value, digits = 3) => (value === 0 ? '0' : String(Number(value.toPrecision(digits))));

function large(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${significant(value / 1e6)} M`;
  if (size >= 1e3) return `${significant(value / 1e3)} K`;
  return significant(value);
}

function duration(value) {
  const size = Math.abs(value);
  if (value === 0) return '0 s';
  if (size < 1e-3) return `${significant(value * 1e6)} µs`;
  if (size < 1) return `${significant(value * 1e3)} ms`;
  return size < 120 ? `${significant(value)} s` : `${significant(value / 60)} min`;
}

function dollars(value) {
  const size = Math.abs(value);
  const text = size >= 1000 ? large(size) : size >= 0.1 ? size.toFixed(size < 100 ? 2 : 0) : significant(size, 2);
  return `${value < 0 ? '−' : ''}$${text}`;
}

// A value in one of the dashboard's units.
export function amount(value, unit, decimals) {
  if (unit === 'percentunit') {
    return `${(value * 100).toFixed(decimals ?? (Math.abs(value) < 0.1 ? 1 : 0)).replace(/^(-?\d+)\.0+$/, '$1')}%`;
  }
  if (unit === 's') return duration(value);
  if (unit === 'currencyUSD') return dollars(value);
  if (unit === 'reqps') return `${large(value)} req/s`;
  return large(value) + (unit.startsWith('suffix:') ? unit.slice('suffix:'.length) : '');
}

const tick = (value, unit) => html(amount(value, unit).replace(/^(\D*\d+)\.0+$/, '$1'));

const html = (text) => text.replace(/[&<>]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[sign]);
const last = (points) => points[points.length - 1][1];
const path = (points) => points.map(([x, y], i) => `${i ? 'L' : 'M'}${x.toFixed(1)},${y.toFixed(1)}`).join('');

// Round steps of 1, 2, 2.5 or 5: about `count` of them between the bounds.
function ticks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const size = [1, 2, 2.5, 5, 10].find((each) => each * power >= raw * 0.999) * power;
  const first = Math.floor(low / size + 1e-9);
  const lastTick = Math.ceil(high / size - 1e-9);
  return Array.from({ length: lastTick - first + 1 }, (_, i) => (first + i) * size);
}

function timeTicks(start, end, count) {
  const sizes = [15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600];
  const size = sizes.find((each) => (end - start) / each <= count) ?? 86400;
  const first = Math.ceil(start / size) * size;
  const clock = (time) => new Date(time * 1000).toISOString().slice(11, size < 60 ? 19 : 16);
  return Array.from({ length: Math.floor((end - first) / size) + 1 }, (_, i) => [first + i * size, clock(first + i * size)]);
}

// Adds up the stacked series: each point becomes [time, from, to]. Those that don't stack start at the bottom.
function layers(series, bottom) {
  const heights = new Map();
  return series.map((each) => {
    const stacked = each.look['custom.stacking']?.mode === 'normal';
    const band = each.points.map(([time, value]) => {
      const from = stacked ? heights.get(time) ?? 0 : bottom;
      if (stacked) heights.set(time, from + value);
      return [time, from, stacked ? from + value : value];
    });
    return { ...each, band, colour: colourOf(each) };
  });
}

const joined = (parts) => parts.join('');
const DASHES = { dash: '7 5', dot: '1.5 4' };

function drawBars({ band, colour, look }, x, y, step) {
  const width = Math.max(1.5, x(step) - x(0));
  const rects = band.map(([time, from, to]) => `<rect x="${x(time) - width}" y="${y(to)}" width="${width}"
    height="${Math.max(0, y(from) - y(to))}"/>`);
  return `<g fill="${colour}" opacity="${look['custom.fillOpacity'] / 100}">${joined(rects)}</g>`;
}

// A gap longer than the panel spans breaks the line.
function pieces(band, longest) {
  const found = [];
  for (const point of band) {
    if (!found.length || point[0] - found.at(-1).at(-1)[0] > longest) found.push([]);
    found.at(-1).push(point);
  }
  return found;
}

function drawLine({ band, colour, look }, x, y, step) {
  const dash = DASHES[look['custom.lineStyle']?.fill];
  const stroke = `stroke-width="${look['custom.lineWidth'] * 0.8 + 0.3}" stroke-linejoin="round" stroke-linecap="round"
    ${dash ? `stroke-dasharray="${dash}"` : ''}`;
  return joined(pieces(band, Math.max(look['custom.spanNulls'] / 1000, step)).map((piece) => {
    const top = path(piece.map(([time, , to]) => [x(time), y(to)]));
    const under = path(piece.map(([time, from]) => [x(time), y(from)]).reverse()).replace('M', 'L');
    const area = `<path d="${top}${under}Z" fill="${colour}" opacity="${look['custom.fillOpacity'] / 100}"/>`;
    return `${look['custom.fillOpacity'] ? area : ''}<path d="${top}" fill="none" stroke="${colour}" ${stroke}/>`;
  }));
}

function axes(rows, columns, x, y, { left, right, bottom, unit }) {
  const lines = rows.map((value) => `<path d="M${left},${y(value)}H${right}" stroke="#252932"/>
    <text x="${left - 6}" y="${y(value) + 3.5}" text-anchor="end">${tick(value, unit)}</text>`);
  const times = columns.map(([time, label]) => `<path d="M${x(time)},${y(rows.at(-1))}V${bottom}" stroke="#1f232b"/>
    <text x="${x(time)}" y="${bottom + 14}" text-anchor="middle">${label}</text>`);
  return [...times, ...lines].join('');
}

export function graph(body, panel, series, { start, end, step, marks }) {
  const { unit, min, max } = panel.fieldConfig.defaults;
  const drawn = layers(series, 0);
  const legend = document.createElement('div');
  legend.className = 'legend';
  legend.innerHTML = drawn
    .map(({ name, colour, look }) => {
      const style = { dash: 'dashed', dot: 'dotted' }[look['custom.lineStyle']?.fill] ?? 'solid';
      return `<span><i style="border-top: 3px ${style} ${colour}"></i>${html(name)}</span>`;
    })
    .join('');
  body.after(legend);

  const { clientWidth: width, clientHeight: height } = body;
  const values = drawn.flatMap(({ band }) => band.map(([, , to]) => to));
  const rows = ticks(min ?? Math.min(0, ...values), max ?? (Math.max(...values, min ?? -Infinity) || 1), 4);
  const [low, high] = [rows[0], rows.at(-1)];
  const left = 14 + 6.1 * Math.max(...rows.map((each) => tick(each, unit).length));
  const [right, top, bottom] = [width - 12, 8, height - 20];
  const x = (time) => left + ((time - start) / (end - start)) * (right - left);
  const y = (value) => bottom - ((value - low) / (high - low)) * (bottom - top);
  const events = marks.map((time) => `<path d="M${x(time)},${top}V${bottom}" stroke="#b877d9" stroke-dasharray="3 3"/>
    <path d="M${x(time) - 4},${bottom + 5}h8l-4,-5z" fill="#b877d9"/>`);
  body.innerHTML = `<svg width="${width}" height="${height}">
    ${axes(rows, timeTicks(start, end, width / (end - start > 300 ? 60 : 85)), x, y, { left, right, bottom, unit })}
    ${joined(drawn.map((each) => (each.look['custom.drawStyle'] === 'bars' ? drawBars : drawLine)(each, x, y, step)))}
    ${joined(events)}</svg>`;
}

export function stat(body, panel, series) {
  const { unit, decimals, thresholds } = panel.fieldConfig.defaults;
  const [{ points }] = series;
  const value = last(points);
  const colour = NAMED[thresholds.steps.filter((each) => each.value === null || value >= each.value).at(-1).color];
  const values = points.map(([, each]) => each);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (time) => ((time - points[0][0]) / (points.at(-1)[0] - points[0][0] || 1)) * 100;
  const line = points.map(([time, each]) => [x(time), 36 - ((each - low) / (high - low || 1)) * 30]);
  body.innerHTML = `<svg class="spark" viewBox="0 0 100 40" preserveAspectRatio="none">
      <path d="${path(line)}L100,40L0,40Z" fill="${colour}" opacity="0.16"/>
      <path d="${path(line)}" fill="none" stroke="${colour}" stroke-width="1.2" vector-effect="non-scaling-stroke"/></svg>
    <div class="stat" style="color: ${colour}">${html(amount(value, unit, decimals))}</div>`;
}

export function bars(body, panel, series) {
  const { unit } = panel.fieldConfig.defaults;
  const longest = Math.max(...series.map(({ points }) => Math.abs(last(points))), 1e-12);
  const rows = series.map((each) => `<div class="bar"><span>${html(each.name)}</span>
    <div class="track"><div style="width: ${(Math.abs(last(each.points)) / longest) * 100}%; background: ${colourOf(each)}"></div></div>
    <b>${html(amount(last(each.points), unit))}</b></div>`);
  body.innerHTML = `<div class="bars">${rows.join('')}</div>`;
}

export function table(body, panel, series) {
  const { renameByName: titles } = panel.transformations.find(({ id }) => id === 'organize').options;
  const cell = ({ metric, points }, name) => html(name === 'Value' ? String(last(points)) : metric[name] ?? '');
  const names = Object.keys(titles);
  body.innerHTML = `<table><tr>${names.map((name) => `<th>${html(titles[name])}</th>`).join('')}</tr>
    ${series.map((each) => `<tr>${names.map((name) => `<td>${cell(each, name)}</td>`).join('')}</tr>`).join('')}</table>`;
}
