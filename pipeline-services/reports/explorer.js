"use strict";
// Sorting, search and country filter of the skills table, and the map of clusters.
// The page is complete without this file; text from the data is only ever set as text.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const words = data.words;
  const byId = (id) => document.getElementById(id);

  const count = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, words["number.thousands"]);
  // Of fewer than a hundred, a decimal would mean nothing.
  const percent = (part, whole) =>
    whole > 0
      ? (part * 100 / whole).toFixed(whole < 100 ? 0 : 1).replace(".", words["number.decimal"]) + words["number.percent"]
      : words.none;
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
  const folded = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

  // ---- skills -----------------------------------------------------------------------------------

  const table = byId("skills-table");
  const query = byId("query");
  // Absent where no countries are compared.
  const country = byId("country");

  function skillsTable() {
    const collator = new Intl.Collator(document.documentElement.lang, { numeric: true });
    const skills = [...table.tBodies].map((body, i) => ({
      body,
      cells: body.rows[0].cells,
      folded: folded(data.skills[i].label),
      ...data.skills[i],
    }));
    const columns = {
      label: (a, b) => collator.compare(a.label, b.label),
      category: (a, b) => collator.compare(a.category, b.category),
      jobs: (a, b) => a.shownJobs - b.shownJobs,
      share: (a, b) => a.shownJobs - b.shownJobs,
      implicit: (a, b) => a.implicit - b.implicit,
    };
    let order = { column: "jobs", descending: true };

    function filter() {
      const code = country?.value ?? "";
      const whole = code ? data.countries[code] : data.postings;
      const wanted = folded(query.value.trim());
      // How a skill was found is only known for all countries together.
      table.classList.toggle("one-country", code !== "");
      const share = table.tHead.rows[0].cells[3];
      (share.querySelector("button") ?? share).textContent =
        words.share + " (" + fill(words.n, { n: count(whole) }) + ")";
      const most = Math.max(1, ...skills.map((s) => (code ? s.countries[code] ?? 0 : s.jobs)));
      let shown = 0;
      for (const skill of skills) {
        skill.shownJobs = code ? skill.countries[code] ?? 0 : skill.jobs;
        const visible = skill.folded.includes(wanted) && (!code || skill.shownJobs > 0);
        skill.body.hidden = !visible;
        if (!visible) continue;
        shown += 1;
        skill.cells[0].querySelector(".bar").style.width = (skill.shownJobs * 100) / most + "%";
        skill.cells[2].textContent = count(skill.shownJobs);
        skill.cells[3].textContent = percent(skill.shownJobs, whole);
      }
      byId("matches").textContent =
        shown > 0
          ? fill(words["html.matches"], { shown: count(shown), total: count(skills.length) })
          : words["html.no_matches"];
    }

    function sort() {
      const compare = columns[order.column];
      const sign = order.descending ? -1 : 1;
      skills.sort((a, b) => sign * compare(a, b) || collator.compare(a.label, b.label));
      table.append(...skills.map((s) => s.body));
      for (const th of table.tHead.rows[0].cells) {
        if (!th.dataset.sort) continue;
        const direction = order.descending ? "descending" : "ascending";
        th.setAttribute("aria-sort", th.dataset.sort === order.column ? direction : "none");
      }
    }

    for (const th of table.tHead.rows[0].cells) {
      const column = th.dataset.sort;
      if (!column) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = th.textContent;
      button.addEventListener("click", () => {
        const first = column !== "label" && column !== "category";
        order = { column, descending: order.column === column ? !order.descending : first };
        sort();
      });
      th.replaceChildren(button);
    }
    byId("controls").hidden = false;
    query.addEventListener("input", filter);
    country?.addEventListener("change", () => { filter(); sort(); });
    filter();
    sort();
  }

  // ---- map --------------------------------------------------------------------------------------

  // As in the printed chart: colour and outline vary together.
  const colors = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"];
  const named = 12;
  const look = (rank) => ({ color: colors[rank % 6], shape: (Math.floor(rank / 6) + rank) % 4 });
  const outlines = [
    null,
    [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
    [[0, -1.25], [1.2, 0.85], [-1.2, 0.85]],
    [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
  ];

  function trace(path, shape, x, y, r) {
    if (shape === 0) {
      path.moveTo(x + r, y);
      path.arc(x, y, r, 0, 2 * Math.PI);
      return;
    }
    outlines[shape].forEach(([dx, dy], i) => path[i ? "lineTo" : "moveTo"](x + dx * r, y + dy * r));
    path.closePath();
  }

  function clusterMap() {
    const canvas = byId("canvas");
    const tip = byId("tip");
    const context = canvas.getContext("2d");
    // [x, y, rank of the cluster or -1, postings, label], coordinates 0 to 1; drawn in layers.
    const layer = (p) => (p[2] < 0 ? 0 : p[2] >= named ? 1 : 2);
    const points = [...data.points].sort((a, b) => layer(a) - layer(b));
    const most = Math.max(1, ...points.map((p) => p[3]));
    let view = { scale: 1, x: 0, y: 0 };
    let picked = null;
    let current = -1;
    let drag = null;
    let size = { width: 0, height: 0 };

    const margin = 18;
    const place = (p) => [
      (margin + p[0] * (size.width - 2 * margin)) * view.scale + view.x,
      (margin + (1 - p[1]) * (size.height - 2 * margin)) * view.scale + view.y,
    ];
    const crowd = Math.min(1, Math.max(0.5, Math.sqrt(600 / points.length)));
    const radius = (p) => crowd * (2.4 + 4.2 * Math.sqrt(p[3] / most)) * Math.min(2, Math.sqrt(view.scale));
    const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

    function style(p, noise, rest) {
      if (p[2] < 0) return { color: noise, shape: 0 };
      return p[2] < named ? look(p[2]) : { color: rest, shape: 0 };
    }

    function draw() {
      const noise = color("--noise");
      const rest = color("--rest");
      const ink = color("--ink");
      context.clearRect(0, 0, size.width, size.height);
      points.forEach((p, i) => {
        const [x, y] = place(p);
        const { color: fillStyle, shape } = style(p, noise, rest);
        context.globalAlpha = picked === null || picked === p[2] ? 1 : 0.12;
        context.fillStyle = fillStyle;
        context.beginPath();
        trace(context, shape, x, y, radius(p) * (i === current ? 1.6 : 1));
        context.fill();
        if (i === current) {
          context.globalAlpha = 1;
          context.strokeStyle = ink;
          context.lineWidth = 2;
          context.stroke();
        }
      });
      context.globalAlpha = 1;
    }

    function resize() {
      const ratio = window.devicePixelRatio || 1;
      size = { width: canvas.clientWidth, height: canvas.clientHeight };
      canvas.width = Math.round(size.width * ratio);
      canvas.height = Math.round(size.height * ratio);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      show(current);
    }

    function nearest(x, y) {
      let best = -1;
      let distance = 14 * 14;
      points.forEach((p, i) => {
        if (picked !== null && p[2] !== picked) return;
        const [px, py] = place(p);
        const d = (px - x) ** 2 + (py - y) ** 2;
        if (d < distance) [best, distance] = [i, d];
      });
      return best;
    }

    function show(i) {
      current = i;
      tip.hidden = i < 0;
      if (i >= 0) {
        const p = points[i];
        const title = document.createElement("strong");
        title.textContent = p[4];
        const cluster = p[2] < 0 ? words["clusters.noise"] : data.clusters[p[2]].label;
        tip.replaceChildren(title, `${cluster} · ${words.job_count}: ${count(p[3])}`);
        const [x, y] = place(p);
        tip.style.left = Math.max(0, Math.min(x + 12, size.width - tip.offsetWidth - 4)) + "px";
        tip.style.top = (y > size.height / 2 ? y - tip.offsetHeight - 12 : y + 12) + "px";
      }
      draw();
    }

    function zoom(factor, x = size.width / 2, y = size.height / 2) {
      const scale = Math.min(30, Math.max(1, view.scale * factor));
      const change = scale / view.scale;
      move(scale, x - (x - view.x) * change, y - (y - view.y) * change);
    }

    function move(scale, x, y) {
      const within = (value, length) => Math.min(0, Math.max(length * (1 - scale), value));
      view = { scale, x: within(x, size.width), y: within(y, size.height) };
      show(current);
    }

    function step(forward) {
      const visible = points.map((p, i) => i).filter((i) => picked === null || points[i][2] === picked);
      visible.sort((a, b) => points[a][0] - points[b][0]);
      const at = visible.indexOf(current);
      const next = at < 0 ? (forward ? 0 : visible.length - 1) : at + (forward ? 1 : -1);
      if (visible.length > 0) show(visible[(next + visible.length) % visible.length]);
    }

    canvas.addEventListener("pointermove", (event) => {
      if (drag && event.buttons) {
        move(view.scale, drag.x + event.offsetX - drag.fromX, drag.y + event.offsetY - drag.fromY);
      } else {
        show(nearest(event.offsetX, event.offsetY));
      }
    });
    canvas.addEventListener("pointerdown", (event) => {
      drag = { x: view.x, y: view.y, fromX: event.offsetX, fromY: event.offsetY };
      show(nearest(event.offsetX, event.offsetY));
    });
    canvas.addEventListener("pointerup", () => { drag = null; });
    canvas.addEventListener("pointerleave", () => { drag = null; show(-1); });
    canvas.addEventListener("wheel", (event) => {
      // The plain wheel goes on scrolling the page.
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoom(event.deltaY < 0 ? 1.25 : 0.8, event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("dblclick", (event) => zoom(2, event.offsetX, event.offsetY));
    canvas.addEventListener("keydown", (event) => {
      const actions = {
        ArrowRight: () => step(true), ArrowDown: () => step(true),
        ArrowLeft: () => step(false), ArrowUp: () => step(false),
        "+": () => zoom(1.5), "-": () => zoom(1 / 1.5), Escape: () => show(-1),
      };
      if (!actions[event.key]) return;
      event.preventDefault();
      actions[event.key]();
    });
    byId("zoom-in").addEventListener("click", () => zoom(1.5));
    byId("zoom-out").addEventListener("click", () => zoom(1 / 1.5));
    byId("zoom-reset").addEventListener("click", () => move(1, 0, 0));

    legend((rank) => { picked = rank; show(-1); });
    byId("map-view").hidden = false;
    new ResizeObserver(resize).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }

  function legend(pick) {
    const list = byId("legend");
    const entries = data.clusters.map((c, rank) => ({ rank, label: c.label, size: c.size }));
    if (data.noise > 0) entries.push({ rank: -1, label: words["clusters.noise"], size: data.noise });
    let pressed = null;
    for (const entry of entries) {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      const size = document.createElement("span");
      size.className = "size";
      size.textContent = count(entry.size);
      const label = document.createElement("span");
      label.textContent = entry.rank < 0 ? entry.label : `${entry.rank + 1}. ${entry.label}`;
      button.append(symbol(entry.rank), label, size);
      button.addEventListener("click", () => {
        const same = pressed === button;
        pressed?.setAttribute("aria-pressed", "false");
        pressed = same ? null : button;
        pressed?.setAttribute("aria-pressed", "true");
        pick(same ? null : entry.rank);
      });
      item.append(button);
      list.append(item);
    }
  }

  function symbol(rank) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", "-7 -7 14 14");
    svg.setAttribute("aria-hidden", "true");
    const plain = rank < 0 ? "var(--noise)" : "var(--rest)";
    const { color, shape } = rank >= 0 && rank < named ? look(rank) : { color: plain, shape: 0 };
    const mark = document.createElementNS(space, shape === 0 ? "circle" : "polygon");
    if (shape === 0) mark.setAttribute("r", "5");
    else mark.setAttribute("points", outlines[shape].map(([x, y]) => `${x * 5},${y * 5}`).join(" "));
    mark.style.fill = color;
    svg.append(mark);
    return svg;
  }

  if (table) skillsTable();
  if (byId("canvas")) clusterMap();
})();
