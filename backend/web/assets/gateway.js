"use strict";
// One gateway: keeps the values that the server wrote current, by server-sent
// events, and draws up to an hour of the point that was picked at each pump.
(() => {
  const root = document.querySelector("main[data-serial]");
  const serial = root.dataset.serial, path = `/api/gateways/${encodeURIComponent(serial)}`;
  const byId = (id) => document.getElementById(id);
  const f = (el, name) => el.querySelector(`[data-f="${name}"]`);
  const { setText, setTime } = penstock;
  penstock.setNow(root.dataset.now);
  penstock.localTimes(document);

  const OLD = 3 * 60 * 1000; // older than any reporting period in use
  const values = new Map();  // "pump/point" → what the server last said
  const buttons = new Map(); // "pump/point" → its buttons (a tile, a row)
  for (const b of root.querySelectorAll("[data-v]")) {
    const list = buttons.get(b.dataset.v) ?? [];
    list.push(b);
    buttons.set(b.dataset.v, list);
  }
  let gateway = null, source = null, lost = 0, retry = 0;

  // Pumps and their charts. A chart is drawn once its pump has been on screen.
  const pumps = new Map();
  for (const el of root.querySelectorAll("[data-pump]")) {
    const pump = { id: el.dataset.pump, el, picked: null, newest: "", chart: null };
    pump.chart = new Chart(f(el, "plot"), f(el, "chart-name"), f(el, "readout"), serial, pump.id);
    pumps.set(pump.id, pump);
    f(el, "more").addEventListener("click", (e) => {
      const all = el.querySelector(".values").classList.toggle("all");
      e.currentTarget.setAttribute("aria-expanded", String(all));
      e.currentTarget.firstChild.textContent = all ? "Hide " : "Show ";
    });
  }
  const onScreen = new IntersectionObserver((entries) => {
    for (const e of entries) if (e.isIntersecting) {
      const pump = pumps.get(e.target.dataset.pump);
      pump.seen = true;
      if (gateway && !pump.picked) pick(pump, firstPoint(pump));
    }
  });

  const firstPoint = (pump) => (pump.el.querySelector(".tile") ?? pump.el.querySelector(".row"))?.dataset.v;

  const pick = (pump, key) => {
    const v = values.get(key);
    if (!v) return;
    pump.picked = key;
    for (const b of pump.el.querySelectorAll("[data-v]")) b.setAttribute("aria-pressed", String(b.dataset.v === key));
    setText(f(pump.el, "chart-name"), `${v.label}, last hour`);
    pump.chart.show(v);
  };
  root.addEventListener("click", (e) => {
    const b = e.target.closest("[data-v]");
    if (!b) return;
    const pump = pumps.get(b.closest("[data-pump]").dataset.pump);
    pick(pump, b.dataset.v);
    const plot = f(pump.el, "plot").getBoundingClientRect();
    if (plot.top < 0 || plot.bottom > innerHeight) f(pump.el, "plot").parentElement.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  });

  const showValue = (key, v) => {
    values.set(key, { ...values.get(key), ...v });
    for (const b of buttons.get(key) ?? []) {
      for (const c of [...b.classList]) if (c.startsWith("q-")) b.classList.remove(c);
      b.classList.add("q-" + v.class);
      setText(b.querySelector(".num"), v.text);
      setText(b.querySelector(".note"), v.note);
    }
  };

  const showPump = (p) => {
    const pump = pumps.get(p.id);
    if (!pump) return;
    pump.newest = p.newest;
    pump.el.classList.remove("state-good", "state-warn", "state-bad", "state-idle");
    pump.el.classList.add("state-" + p.class);
    f(pump.el, "state").className = "pill " + p.class;
    setText(f(pump.el, "state"), p.state);
    setText(f(pump.el, "unmeasured"), String(p.unmeasured));
    f(pump.el, "more").hidden = p.unmeasured === 0;
  };

  const showGateway = (g) => {
    gateway = g;
    root.classList.toggle("offline", !g.online);
    byId("state").className = "pill " + g.class;
    setText(byId("state"), g.state);
    setText(byId("since-word"), g.since_word);
    setText(byId("gaps"), g.gap_text);
    setText(byId("offline"), g.offline_text);
    byId("offline").hidden = g.online;
    setText(byId("ahead"), g.ahead_text);
    byId("ahead").hidden = !g.ahead_text;
    showAlarms(g.alarms ?? []);
    for (const p of pumps.values()) p.chart.offline = !g.online;
  };

  const showAlarms = (alarms) => {
    const list = byId("alarms");
    list.hidden = alarms.length === 0;
    while (list.children.length > alarms.length) list.lastChild.remove();
    alarms.forEach((a, i) => {
      const li = list.children[i] ?? list.appendChild(document.createElement("li"));
      const key = a.time + a.text;
      if (li.dataset.key === key) return;
      li.dataset.key = key;
      const when = document.createElement("span");
      setTime(when, a.time, false);
      li.replaceChildren(when, " " + a.text);
    });
  };

  // What grows old by itself: ages, and values that nothing has renewed.
  const age = () => {
    if (!gateway) return;
    setTime(byId("since"), gateway.since, true);
    setTime(byId("last"), gateway.last_reading, true);
    for (const p of pumps.values()) {
      setTime(f(p.el, "asof"), p.newest, true);
      const old = !gateway.online || lost > 0 || penstock.now() - Date.parse(p.newest) > OLD;
      p.el.classList.toggle("old", old);
    }
  };

  const onValues = (e) => {
    const m = JSON.parse(e.data);
    penstock.setNow(m.now);
    lost = retry = 0;
    byId("trouble").hidden = true;
    // A page made for other pumps or points than these is of no use.
    if (m.whole && (Object.keys(m.values).length !== buttons.size || Object.keys(m.values).some((key) => !buttons.has(key)))) { location.reload(); return; }
    const first = gateway === null;
    showGateway(m.gateway);
    for (const p of m.pumps) showPump(p);
    for (const [key, v] of Object.entries(m.values)) showValue(key, v);
    age();
    if (first) { for (const p of pumps.values()) onScreen.observe(p.el); return; }
    for (const p of pumps.values()) {
      if (!p.picked) continue;
      // A whole picture (after a break) may follow any number of changes.
      if (m.whole) p.chart.changed(penstock.now() - Chart.HOUR, penstock.now() + 60000);
      else if (m.to) p.chart.changed(Date.parse(m.from), Date.parse(m.to));
    }
    root.dataset.updates = String(Number(root.dataset.updates ?? 0) + 1);
  };

  const connect = () => {
    source = new EventSource(path + "/live");
    source.addEventListener("values", onValues);
    source.addEventListener("reload", () => location.reload());
    source.addEventListener("signed-out", () => { source.close(); penstock.signIn(); });
    source.onerror = async () => {
      lost ||= penstock.now();
      setText(byId("trouble"), `No connection to Penstock since ${penstock.moment(lost)}: the values below are from then. Trying again.`);
      byId("trouble").hidden = false;
      age();
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      try { await penstock.get(path); } catch { /* shown above already; a 401 leads to the sign-in */ }
      clearTimeout(retry);
      retry = setTimeout(reconnect, 5000);
    };
  };
  const reconnect = () => { source?.close(); connect(); };

  // A page that nobody sees takes no data.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source?.close();
    else if (!source || source.readyState === EventSource.CLOSED) connect();
  });
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (e) => { if (e.persisted) reconnect(); });
  setInterval(() => {
    if (document.hidden) return;
    age();
    for (const p of pumps.values()) if (p.picked && p.seen) p.chart.draw();
  }, 5000);
  connect();
})();
