"use strict";
// The list of gateways, asked for anew while somebody looks at it.
(() => {
  const list = document.getElementById("gateways");
  const trouble = document.getElementById("trouble");
  penstock.localTimes(document);
  let lost = 0;

  const show = (li, g) => {
    const f = (name) => li.querySelector(`[data-f="${name}"]`);
    f("state").className = "pill " + g.class;
    penstock.setText(f("state"), g.state);
    penstock.setText(f("since-word"), g.since_word);
    penstock.setTime(f("since"), g.since, true);
    penstock.setTime(f("last"), g.last_reading, true);
    penstock.setText(f("pumps"), String(g.pump_count));
    penstock.setText(f("attention"), g.attention);
  };

  const refresh = async () => {
    if (document.hidden) return;
    try {
      const data = await penstock.get("/api/gateways");
      penstock.setNow(data.now);
      const known = new Map(list ? [...list.children].map((li) => [li.dataset.serial, li]) : []);
      if (data.gateways.length !== known.size || data.gateways.some((g) => !known.has(g.serial))) { location.reload(); return; }
      for (const g of data.gateways) show(known.get(g.serial), g);
      penstock.setText(document.getElementById("count"), data.count);
      lost = 0;
      trouble.hidden = true;
    } catch (err) {
      lost ||= penstock.now();
      penstock.setText(trouble, `No connection to Penstock since ${penstock.moment(lost)}: what stands here is older. (${err.message})`);
      trouble.hidden = false;
    }
  };
  setInterval(refresh, 5000);
  document.addEventListener("visibilitychange", refresh);
  refresh();
})();
