"use strict";
// Up to the last hour of one point, less where there is less. Samples come from the server in columns; a hole
// is drawn as a break, a gap record as a shaded band with its reason.
class Chart {
  static HOUR = 3600 * 1000;
  static LEAST = 2 * 60 * 1000; // what a chart covers at least

  // el is the place for the plot, name and readout the line above it; serial and
  // pump say whose points it draws.
  constructor(el, name, readout, serial, pump) {
    Object.assign(this, { el, name, readout, serial, pump, point: null, plot: null, offline: false });
    this.reset();
    new ResizeObserver(() => this.plot && this.plot.setSize(this.size())).observe(el);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.discard(); this.draw(); });
  }

  reset() {
    this.t = []; this.v = []; this.q = [];
    this.gaps = []; this.info = null; this.wanted = null; this.failed = "";
  }

  // Shows another point: { point, label, unit, decimals, step }.
  show(value) {
    this.reset();
    this.discard();
    this.point = value.point;
    this.value = value;
    this.abort?.abort();
    this.abort = new AbortController();
    this.loading = null;
    this.say("loading …");
    this.changed(penstock.now() - Chart.HOUR, penstock.now() + 60000);
  }

  // Readings between two times (Unix ms) were stored: fetches them. While one
  // request is under way, what comes meanwhile is joined into the next.
  changed(from, to) {
    if (!this.point) return;
    from = Math.max(from, penstock.now() - Chart.HOUR);
    if (to < from) return;
    this.wanted = this.wanted ? { from: Math.min(from, this.wanted.from), to: Math.max(to, this.wanted.to) } : { from, to };
    this.loading ??= this.load(this.abort.signal);
  }

  async load(signal) {
    try {
      while (this.wanted) {
        const { from, to } = this.wanted;
        this.wanted = null;
        const q = new URLSearchParams({ pump: this.pump, point: this.point, from: new Date(from).toISOString(), to: new Date(to).toISOString() });
        const data = await penstock.get(`/api/gateways/${this.serial}/range?${q}`, signal);
        if (signal.aborted) return;
        this.failed = "";
        this.merge(data, from, to);
        this.draw();
      }
    } catch (err) {
      if (signal.aborted) return;
      this.failed = err.message;
      this.draw();
    } finally {
      if (!signal.aborted) this.loading = null;
    }
  }

  // Replaces what is between from and to by what the server holds there.
  merge(data, from, to) {
    this.info = data;
    this.unscaled = data.unscaled ?? 0;
    const keep = (lo, hi) => [this.t.slice(lo, hi), this.v.slice(lo, hi), this.q.slice(lo, hi)];
    const at = (ms) => { let lo = 0, hi = this.t.length; while (lo < hi) { const m = (lo + hi) >> 1; if (this.t[m] < ms) lo = m + 1; else hi = m; } return lo; };
    const a = keep(at(penstock.now() - Chart.HOUR), at(from)), b = keep(at(to + 1), this.t.length);
    this.t = a[0].concat(data.t, b[0]); this.v = a[1].concat(data.v, b[1]); this.q = a[2].concat(data.q, b[2]);
    const known = new Map(this.gaps.concat(data.gaps).map((g) => [g.from + g.to + g.reason, g]));
    this.gaps = [...known.values()].filter((g) => Date.parse(g.to) > penstock.now() - Chart.HOUR);
  }

  // Columns as uPlot takes them: seconds, what was measured, and what a module
  // only repeats (stale). A null breaks a line where a slot is missing.
  columns() {
    const xs = [], measured = [], stale = [], hole = Math.max(3 * this.info.period_ms, 3000);
    for (let i = 0; i < this.t.length; i++) {
      if (i > 0 && this.t[i] - this.t[i - 1] > hole) { xs.push((this.t[i - 1] + 1) / 1000); measured.push(null); stale.push(null); }
      const old = this.q[i] === 2 || this.q[i] === 5;
      xs.push(this.t[i] / 1000); measured.push(old ? null : this.v[i]); stale.push(old ? this.v[i] : null);
    }
    return [xs, measured, stale];
  }

  // The time that is drawn (ms up to now): the hour, or less where there is only less.
  span() {
    const end = penstock.now();
    let first = this.t.length ? this.t[0] : end;
    for (const g of this.gaps) first = Math.min(first, Date.parse(g.from));
    return Math.min(Chart.HOUR, Math.max(Chart.LEAST, (end - first) * 1.02));
  }

  // That time in words.
  spanText() {
    const minutes = Math.ceil(this.span() / 60000);
    return minutes > 55 ? "last hour" : `last ${minutes} minutes`;
  }

  size() { return { width: this.el.clientWidth, height: this.el.clientHeight }; }

  discard() { this.plot?.destroy(); this.plot = null; }

  nothing(text) {
    this.discard();
    const p = document.createElement("p");
    p.className = "nothing";
    p.textContent = text;
    this.el.replaceChildren(p);
    this.el.setAttribute("aria-label", `${this.value.label}: ${text}`);
    this.say("");
  }

  draw() {
    if (!this.info) { if (this.failed) this.nothing(`The last hour could not be loaded: ${this.failed}`); return; }
    if (this.el.clientWidth === 0) return;
    const numbers = this.v.filter((v) => v !== null);
    if (numbers.length === 0) { this.nothing(this.unscaled > 0 ? "The scale of these readings is not known." : "No value in the last hour."); return; }
    const data = this.columns(), end = penstock.now() / 1000;
    if (!this.plot) {
      this.el.replaceChildren();
      this.plot = new uPlot(this.options(), data, this.el);
      this.el.dataset.drawn = "true";
    }
    this.el.dataset.until = this.t[this.t.length - 1];
    this.plot.batch(() => {
      this.plot.setData(data, false);
      this.plot.setScale("x", { min: end - this.span() / 1000, max: end });
    });
    // A loop, not Math.min(...): a long column would be too many arguments.
    let lo = Infinity, hi = -Infinity;
    for (const v of numbers) { if (v < lo) lo = v; if (v > hi) hi = v; }
    this.range = this.value.step ? "" : lo === hi ? `steady at ${this.text(lo)}` : `${this.text(lo)} to ${this.text(hi)}`;
    penstock.setText(this.name, `${this.value.label}, ${this.spanText()}`);
    this.el.setAttribute("aria-label", `${this.value.label}, ${this.spanText()}: ${this.range || "chart of states"}`);
    this.tell(this.plot);
  }

  text(v) {
    if (this.value.step) return this.info.texts[v] ?? String(v);
    return (v.toFixed(this.value.decimals) + " " + this.value.unit).trim().replace("-", "\u2212");
  }

  say(text) { penstock.setText(this.readout, text); }

  // The value under the cursor; without one, the hour's range.
  tell(u) {
    const i = u.cursor.idx, v = i == null ? null : u.data[1][i] ?? u.data[2][i];
    if (v == null) { this.say(this.range ?? ""); return; }
    this.say(`${penstock.moment(u.data[0][i] * 1000)}  ${this.text(v)}${u.data[1][i] == null ? ", old value" : ""}`);
  }

  options() {
    const css = getComputedStyle(document.documentElement), colour = (name) => css.getPropertyValue(name).trim();
    const font = "12px " + getComputedStyle(document.body).fontFamily;
    const axis = { stroke: colour("--soft"), font, grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false } };
    const hour = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    const second = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
    const step = this.value.step, paths = step ? uPlot.paths.stepped({ align: 1 }) : undefined;
    return {
      ...this.size(),
      legend: { show: false },
      padding: [8, 10, 0, 0],
      cursor: { drag: { x: false, y: false }, y: false, points: { size: 8 } },
      scales: { x: { time: true, auto: false }, y: { range: (u, lo, hi) => this.bounds(lo, hi) } },
      series: [
        {},
        { stroke: colour("--chart"), width: 2, points: { size: 4, fill: colour("--chart") }, paths },
        { stroke: colour("--soft"), width: 1.5, dash: [4, 4], points: { show: false }, paths },
      ],
      axes: [
        { ...axis, size: 28, space: 64, incrs: [30, 60, 120, 300, 600, 900, 1800, 3600], values: (u, at) => at.map((s) => (at[1] - at[0] < 60 ? second : hour).format(s * 1000)) },
        {
          ...axis, space: 34, gap: 6,
          size: (u, texts) => Math.min(130, 18 + 6.6 * Math.max(3, ...(texts ?? []).map((s) => s.length))),
          splits: step ? () => this.codes() : undefined,
          values: step ? (u, at) => at.map((v) => this.text(v).slice(0, 18)) : undefined,
        },
      ],
      hooks: { drawClear: [(u) => this.bands(u, colour)], setCursor: [(u) => this.tell(u)] },
    };
  }

  codes() { return [...new Set(this.v.filter((v) => v !== null))].sort((a, b) => a - b); }

  // Noise in the last digit must not fill the chart.
  bounds(lo, hi) {
    if (lo == null) return [0, 1];
    if (this.value.step) return [lo - 0.5, hi + 0.5];
    const least = Math.max(20 * 10 ** -this.value.decimals, 0.04 * Math.max(Math.abs(lo), Math.abs(hi)));
    const room = Math.max(0, least - (hi - lo)) / 2 + 0.08 * Math.max(hi - lo, least);
    return [lo >= 0 ? Math.max(0, lo - room) : lo - room, hi + room];
  }

  bands(u, colour) {
    const { ctx, bbox } = u, px = (ms) => Math.min(bbox.left + bbox.width, Math.max(bbox.left, u.valToPos(ms / 1000, "x", true)));
    const band = (from, to, fill, text) => {
      const a = px(from), b = Math.max(px(to), a + 2 * devicePixelRatio);
      ctx.fillStyle = fill;
      ctx.fillRect(a, bbox.top, b - a, bbox.height);
      ctx.fillStyle = colour("--soft");
      if (ctx.measureText(text).width + 8 * devicePixelRatio < b - a) ctx.fillText(text, a + 4 * devicePixelRatio, bbox.top + 4 * devicePixelRatio);
    };
    ctx.save();
    ctx.font = `${12 * devicePixelRatio}px ${getComputedStyle(document.body).fontFamily}`;
    ctx.textBaseline = "top";
    ctx.textAlign = "left";
    for (const g of this.gaps) band(Date.parse(g.from), Date.parse(g.to), colour("--gap"), g.reason_text);
    if (this.offline && this.t.length) band(this.t[this.t.length - 1], penstock.now(), colour("--late"), "not here yet");
    ctx.restore();
  }
}
