"use strict";
// What both pages need: times as people say them, and a fetch that knows when
// the session has ended.
const penstock = (() => {
  const two = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
  const clock = new Intl.DateTimeFormat([], two);
  const dated = new Intl.DateTimeFormat([], { day: "numeric", month: "short", ...two });
  const full = new Intl.DateTimeFormat([], { dateStyle: "full", timeStyle: "long" });

  // The server's clock, so that a wrong one in a phone does not matter.
  let offset = 0;
  const now = () => Date.now() + offset;
  const setNow = (instant) => { offset = Date.parse(instant) - Date.now(); };

  const moment = (ms) => {
    const d = new Date(ms), today = new Date(now());
    return d.toDateString() === today.toDateString() ? clock.format(d) : dated.format(d);
  };

  const ago = (ms) => {
    const s = Math.max(0, Math.round((now() - ms) / 1000));
    if (s < 100) return `${s} s`;
    if (s < 100 * 60) return `${Math.round(s / 60)} min`;
    if (s < 48 * 3600) return `${Math.round(s / 3600)} h`;
    return `${Math.round(s / 86400)} days`;
  };

  // Fills an element with an instant; how old it is stands beside it.
  const setTime = (el, instant, withAge) => {
    const ms = Date.parse(instant);
    if (!instant || ms <= 0 || Number.isNaN(ms)) { el.textContent = "never"; return; }
    let t = el.querySelector("time");
    if (!t) { t = document.createElement("time"); el.replaceChildren(t); }
    if (t.dateTime !== instant) { t.dateTime = instant; t.title = full.format(ms); }
    const text = withAge ? `${moment(ms)} (${ago(ms)} ago)` : moment(ms);
    if (t.textContent !== text) t.textContent = text;
  };

  // Turns the server's UTC times into local ones.
  const localTimes = (root) => {
    for (const t of root.querySelectorAll("time")) setTime(t.parentElement, t.getAttribute("datetime"), false);
  };

  const signIn = () => {
    location.assign("/sign-in?next=" + encodeURIComponent(location.pathname));
    return new Promise(() => {}); // the page is being left
  };

  const get = async (path, signal) => {
    const r = await fetch(path, { signal, headers: { Accept: "application/json" } });
    if (r.status === 401) return signIn();
    if (!r.ok) {
      let detail = r.statusText || String(r.status);
      try { detail = (await r.json()).detail || detail; } catch { /* not a problem document */ }
      throw new Error(detail);
    }
    return r.json();
  };

  const setText = (el, text) => { if (el && el.textContent !== text) el.textContent = text; };

  return { now, setNow, moment, ago, setTime, localTimes, get, signIn, setText };
})();
