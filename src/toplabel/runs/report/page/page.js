"use strict";
(() => {
  // Names, labels and messages are text that others chose: they reach the page as textContent or
  // as attributes' values, never as HTML.

  const TOP_LABELS = 12;
  const MOST_LABELS = 400; // buttons in the list; a search reaches the others
  const OVERSCAN = 700; // pixels above and below the window that hold cards
  const PRINTED = 240; // cards on paper
  const PRINTED_COLUMNS = 6;
  const SVG = "http://www.w3.org/2000/svg";

  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const counts = data.counts;
  const number = new Intl.NumberFormat("en");
  const count = (n, one, many) => `${number.format(n)} ${n === 1 ? one : many}`;
  const score = (value) => value.toFixed(2);

  function make(tag, properties, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name.includes("-") || name === "role") element.setAttribute(name, value);
      else element[name] = value;
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  // ---- What there is ----

  const sameName = new Map();
  for (const name of Object.values(data.labels)) sameName.set(name, (sameName.get(name) || 0) + 1);
  const labelName = (index) => {
    const name = data.labels[index];
    return sameName.get(name) > 1 ? `${name} (class ${index})` : name;
  };

  const images = data.images.map(([folder, base, top, marks, code, message], order) => {
    const best = [];
    for (let i = 0; i < top.length; i += 2) best.push({ index: top[i], score: top[i + 1] });
    const label = best.length ? labelName(best[0].index) : "";
    const name = data.folders[folder] + base;
    return {
      order, base, name, label, code, message, top: best,
      failed: code !== undefined,
      unsure: (marks & 1) !== 0,
      file: (marks & 4) !== 0,
      unknown: (marks & 2) !== 0,
      index: best.length ? best[0].index : -1,
      score: best.length ? best[0].score : -1,
      text: `${label}\n${name}`.toLowerCase(),
    };
  });

  // Thumbnails stand in groups, parsed when one of a group is first seen. This script runs when
  // the first groups are there; the browser is still reading the others.
  const parsed = new Map();
  const loaded = () => document.readyState !== "loading";
  let awaited = false; // a card waits for its thumbnail
  function bytesOf(image) {
    const group = Math.floor(image.order / data.group);
    if (!parsed.has(group)) {
      if (group >= data.first && !loaded()) return null;
      parsed.set(group, JSON.parse(byId(`thumbnails-${group}`).textContent));
    }
    return parsed.get(group)[image.order % data.group];
  }

  // ---- What is asked for, kept in the address ----

  const DEFAULTS = { q: "", label: "", min: 0, max: 1, state: "all", code: "", sort: "least", group: false };
  const state = { ...DEFAULTS };
  const STATES = ["all", "labelled", "unsure", "unknown", "failed"];
  const SORTS = ["least", "most", "name"];

  function readAddress() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const within = (text, fallback) => {
      const value = text === null || text === "" ? NaN : Number(text);
      return value >= 0 && value <= 1 ? value : fallback;
    };
    const known = (value, values, fallback) => (values.includes(value) ? value : fallback);
    state.q = asked.get("q") || "";
    state.label = Object.hasOwn(data.labels, asked.get("label")) ? asked.get("label") : "";
    state.min = within(asked.get("min"), 0);
    state.max = Math.max(state.min, within(asked.get("max"), 1));
    state.state = known(asked.get("state"), STATES, "all");
    state.code = known(asked.get("code"), counts.errors.map(([code]) => code), "");
    state.sort = known(asked.get("sort"), SORTS, "least");
    state.group = asked.get("group") === "1";
  }

  let addressTimer = 0;
  function writeAddress() {
    clearTimeout(addressTimer);
    addressTimer = setTimeout(() => {
      const described = new URLSearchParams();
      for (const [key, value] of Object.entries(state)) {
        if (value !== DEFAULTS[key]) described.set(key, value === true ? "1" : String(value));
      }
      history.replaceState(null, "", `#${described}`);
    }, 150);
  }

  const collator = new Intl.Collator("en", { numeric: true });
  const orders = { least: images };
  function ordered(name) {
    if (!orders[name]) {
      const byName = (a, b) => collator.compare(a.name, b.name) || a.order - b.order;
      const byScore = (a, b) => b.score - a.score || a.order - b.order;
      orders[name] = [...images].sort(name === "name" ? byName : byScore);
    }
    return orders[name];
  }

  function matching() {
    const text = state.q.trim().toLowerCase();
    const whole = state.min === 0 && state.max === 1;
    return ordered(state.sort).filter((p) =>
      (state.label === "" || p.index === Number(state.label)) &&
      (whole || (!p.failed && p.score >= state.min && p.score <= state.max)) &&
      (state.state === "all" || (state.state === "unsure" || state.state === "unknown" ? p[state.state] : p.failed === (state.state === "failed"))) &&
      (state.code === "" || p.code === state.code) &&
      (text === "" || p.text.includes(text)));
  }

  function change(changes) {
    Object.assign(state, changes);
    writeAddress();
    update();
  }

  // ---- Figures and charts ----

  const labelled = counts.inputs - counts.failed;
  const FIGURES = [
    ["all", counts.inputs, counts.inputs === 1 ? "input" : "inputs"],
    ["labelled", labelled, "labelled"],
    ...(counts.unsure === undefined ? [] : [["unsure", counts.unsure, "unsure"]]), // where it was asked
    ...(counts.unknown === undefined ? [] : [["unknown", counts.unknown, "unknown"]]), // where the model can tell
    ["failed", counts.failed, "failed"],
  ];
  const share = (n) => {
    const percent = (100 * n) / counts.inputs;
    return percent > 0 && percent < 0.1 ? "< 0.1 %" : percent < 100 && percent > 99.9 ? "> 99.9 %" : `${Number(percent.toFixed(1))} %`;
  };

  function buildFigures() {
    for (const [name, n, text] of FIGURES) {
      const part = name !== "all" && counts.inputs ? make("small", { textContent: share(n) }) : null;
      const words = make("span", {}, text, part);
      byId("figures").append(make("button", {
        type: "button", className: "figure", "data-state": name,
        onclick: () => change({ state: name, code: "" }),
      }, make("b", { textContent: number.format(n) }), words));
    }
  }

  function bar(key, name, n, most, pressed, onclick) {
    const line = make("span", { className: "bar" });
    line.style.width = `${(100 * n) / most}%`;
    return make("li", {}, make("button", {
      type: "button", "data-key": key, "aria-pressed": String(pressed), title: name, onclick,
    }, make("bdi", { className: "name", textContent: name }),
    make("span", { className: "number", textContent: number.format(n) }), line));
  }

  function buildBars(list, bars) {
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    list.replaceChildren(...bars);
    if (focused === null) return;
    const again = [...list.querySelectorAll("button")].find((button) => button.dataset.key === focused);
    if (again) again.focus();
  }

  let allLabels = false;
  function updateLabels() {
    const text = state.q.trim().toLowerCase();
    const every = counts.labels.filter(([index]) => text === "" || labelName(index).toLowerCase().includes(text));
    const found = every.slice(0, allLabels ? MOST_LABELS : TOP_LABELS);
    const chosen = counts.labels.find(([index]) => String(index) === state.label);
    if (chosen && !found.includes(chosen)) found.unshift(chosen);
    const most = Math.max(1, ...counts.labels.slice(0, 1).map(([, n]) => n));
    buildBars(byId("labels"), found.map(([index, n]) => {
      const pressed = String(index) === state.label;
      return bar(index, labelName(index), n, most, pressed, () => change({ label: pressed ? "" : String(index) }));
    }));
    const button = byId("all-labels");
    button.hidden = every.length <= TOP_LABELS;
    button.textContent = allLabels ? `Show the first ${TOP_LABELS}` : `Show all ${number.format(every.length)}`;
    button.setAttribute("aria-expanded", String(allLabels));
    const more = byId("more-labels");
    const rest = every.length - MOST_LABELS;
    more.hidden = found.length > 0 && !(allLabels && rest > 0);
    more.textContent = found.length ? `And ${number.format(rest)} more: search for them.`
      : counts.labels.length ? "No label has this text." : "No input has a label.";
  }

  function updateErrors() {
    byId("failures").hidden = counts.errors.length === 0;
    const most = counts.errors.length ? counts.errors[0][1] : 1;
    buildBars(byId("errors"), counts.errors.map(([code, n]) => {
      const pressed = code === state.code;
      const changes = pressed ? { state: "all", code: "" } : { state: "failed", code };
      return bar(code, code.replaceAll("_", " "), n, most, pressed, () => change(changes));
    }));
  }

  function buildHistogram() {
    const most = Math.max(1, ...counts.scores);
    const bins = counts.scores.length;
    byId("histogram").append(...counts.scores.map((n, i) => {
      const column = make("span", { title: `${score(i / bins)} to ${score((i + 1) / bins)}: ${number.format(n)}` });
      column.style.height = `${(100 * n) / most}%`;
      return column;
    }));
    const described = counts.scores.map((n, i) => (n ? `${number.format(n)} from ${score(i / bins)} to ${score((i + 1) / bins)}` : ""));
    byId("histogram").setAttribute("aria-label", `Inputs by score: ${described.filter(Boolean).join(", ") || "none"}.`);
  }

  function updateRange() {
    const least = byId("least");
    const most = byId("most");
    least.value = state.min;
    most.value = state.max;
    least.style.zIndex = state.min > 0.5 ? 1 : 0; // where both stand at one end, the free one is on top
    byId("least-text").textContent = score(state.min);
    byId("most-text").textContent = score(state.max);
    const columns = byId("histogram").children;
    for (let i = 0; i < columns.length; i += 1) {
      const inside = (i + 1) / columns.length > state.min + 1e-9 && i / columns.length < state.max - 1e-9;
      columns[i].className = inside ? "within" : "";
    }
  }

  function updateChips() {
    const chips = [];
    const chip = (text, changes) => chips.push(make("button", {
      type: "button", className: "chip", "aria-label": `Remove the filter ${text}`, onclick: () => change(changes),
    }, make("bdi", { textContent: text }), make("span", { textContent: "×", "aria-hidden": "true" })));
    if (state.q.trim()) chip(`“${state.q.trim()}”`, { q: "" });
    if (state.label !== "") chip(labelName(state.label), { label: "" });
    if (state.min > 0 || state.max < 1) chip(`score ${score(state.min)} to ${score(state.max)}`, { min: 0, max: 1 });
    if (state.code) chip(state.code.replaceAll("_", " "), { code: "", state: "all" });
    else if (state.state !== "all") chip(state.state, { state: "all" });
    if (chips.length > 1) {
      chips.push(make("button", {
        type: "button", className: "chip all", textContent: "Clear all",
        onclick: () => change({ ...DEFAULTS, sort: state.sort, group: state.group }),
      }));
    }
    const held = byId("chips").contains(document.activeElement);
    byId("chips").replaceChildren(...chips);
    if (held) (chips[0] || byId("sort")).focus();
  }

  function updateCount() {
    const all = shown.length === images.length;
    let text = all ? count(images.length, "image", "images")
      : `${number.format(shown.length)} of ${count(images.length, "image", "images")}`;
    if (state.label !== "" && images.length < counts.inputs) {
      const found = counts.labels.find(([index]) => String(index) === state.label);
      text += `; ${count(found ? found[1] : 0, "input has", "inputs have")} this label`;
    }
    byId("count").textContent = text;
    byId("empty").hidden = shown.length > 0;
    byId("empty").textContent = images.length ? "No image matches these filters." : "There were no inputs.";
  }

  // ---- The grid: only rows near the window are in the document ----

  const grid = byId("grid");
  const dense = images.length > 2000; // thumbnails are small then
  grid.classList.toggle("dense", dense);
  let shown = []; // the images that match, in order
  let rows = []; // {top, height, from, to} of cards, or {top, height, heading, n}
  let rowOf = []; // position in shown -> row
  let columns = 1;
  let printing = false;
  let active = 0; // the position that Tab reaches
  const built = new Map(); // row number -> element

  function grouped(list) {
    const parts = new Map();
    for (const image of list) {
      const key = image.failed ? image.code : image.index;
      if (!parts.has(key)) parts.set(key, []);
      parts.get(key).push(image);
    }
    const rank = new Map([...counts.labels, ...counts.errors].map(([key], order) => [key, order]));
    return [...parts.entries()].sort(([a], [b]) => rank.get(a) - rank.get(b));
  }

  function placeholder() {
    const svg = document.createElementNS(SVG, "svg");
    const path = document.createElementNS(SVG, "path");
    svg.setAttribute("viewBox", "0 0 48 48");
    svg.setAttribute("class", "missing");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", "No image");
    path.setAttribute("d", "M14 16h20v16h-20z M14 29l6-6 4 4 4-5 6 7 M12 36l24-24");
    svg.append(path);
    return svg;
  }

  function thumbnailOf(image) {
    const base64 = bytesOf(image);
    if (base64 === null) {
      awaited = true;
      return null;
    }
    if (!base64) return placeholder();
    return make("img", { decoding: "async", draggable: false, alt: `Thumbnail of ${image.base}`, src: `data:image/webp;base64,${base64}` });
  }

  function fillAwaited() {
    if (!awaited) return;
    for (const frame of grid.querySelectorAll(".frame:empty")) frame.append(thumbnailOf(images[frame.dataset.index]));
    if (dialog.open) show(opened);
  }

  function track(value) {
    const fill = make("span", { className: "fill" });
    fill.style.width = `${Math.min(100, Math.max(0, 100 * value))}%`;
    return make("span", { className: "track" }, fill);
  }

  const title = (image) => {
    if (image.failed) return image.code.replaceAll("_", " ");
    return image.unknown ? `unknown (nearest: ${image.label})` : image.label;
  };

  function described(image) {
    const fact = image.failed ? `failed, ${title(image)}` : `${title(image)}, score ${score(image.score)}`;
    return `${fact}${image.unsure ? ", unsure" : ""}, ${image.base}`;
  }

  // A long name keeps its end, which tells files of one series apart; only where each character
  // stands alone, so that nothing is torn.
  function shortName(name) {
    if (name.length < 16 || !/^[ -~]+$/.test(name)) return make("bdi", { className: "name", textContent: name });
    return make("bdi", { className: "name split" },
      make("span", { textContent: name.slice(0, -9) }), make("span", { textContent: name.slice(-9) }));
  }

  function card(position) {
    const image = shown[position];
    const line = make("span", { className: "line" });
    if (image.failed) line.append("failed");
    else line.append(track(image.score), score(image.score));
    const button = make("button", {
      type: "button",
      className: `card${image.unsure ? " unsure" : ""}`,
      tabIndex: position === active ? 0 : -1,
      title: image.name,
      "aria-label": described(image),
      "aria-haspopup": "dialog",
      "data-position": position,
    }, make("span", { className: "frame", "data-index": image.order }, thumbnailOf(image)),
    make("bdi", { className: "label", textContent: image.unknown ? "unknown" : title(image) }), line,
    shortName(image.base));
    return make("div", { role: "listitem", className: "cell", "aria-setsize": shown.length, "aria-posinset": position + 1 }, button);
  }

  function rowElement(row) {
    if (row.heading !== undefined) {
      return make("div", { role: "listitem", className: "row heading" },
        make("h3", {}, make("bdi", { textContent: row.heading })),
        make("span", { textContent: count(row.n, "image", "images") }));
    }
    const element = make("div", { className: "row", role: "presentation" });
    element.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    for (let position = row.from; position < row.to; position += 1) element.append(card(position));
    return element;
  }

  function measure(row) {
    const element = rowElement(row);
    grid.append(element);
    const height = element.offsetHeight;
    element.remove();
    return height;
  }

  function layOut() {
    built.clear();
    grid.replaceChildren();
    const gap = parseFloat(getComputedStyle(grid).getPropertyValue("--gap")) || 12;
    const least = dense ? 102 : 148;
    columns = printing ? PRINTED_COLUMNS : Math.max(1, Math.floor((grid.clientWidth + gap) / (least + gap)));
    rows = [];
    rowOf = new Array(shown.length);
    if (!shown.length) {
      grid.style.height = "0";
      return;
    }
    const height = measure({ from: 0, to: 1 });
    const parts = state.group ? grouped(shown) : [[null, shown]];
    const headingHeight = state.group ? measure({ heading: "Label", n: 1 }) : 0;
    if (state.group) shown = parts.flatMap(([, list]) => list);
    let top = 0;
    let position = 0;
    for (const [, list] of parts) {
      const end = position + list.length;
      if (state.group) {
        rows.push({ top, height: headingHeight, heading: title(list[0]), n: list.length });
        top += headingHeight;
      }
      for (; position < end; position += columns) {
        const to = Math.min(end, position + columns);
        rowOf.fill(rows.length, position, to);
        rows.push({ top, height, from: position, to });
        top += height;
      }
      position = end;
    }
    grid.style.height = `${top}px`;
  }

  function rowAt(y) {
    let low = 0;
    let high = rows.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle].top + rows[middle].height > y) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  function draw(first, last) {
    const pinned = grid.contains(document.activeElement) ? rowOf[active] : -1;
    for (const [rowNumber, element] of built) {
      if ((rowNumber < first || rowNumber > last) && rowNumber !== pinned) {
        element.remove();
        built.delete(rowNumber);
      }
    }
    for (let rowNumber = first; rowNumber <= last; rowNumber += 1) {
      if (built.has(rowNumber)) continue;
      const element = rowElement(rows[rowNumber]);
      element.style.transform = `translateY(${rows[rowNumber].top}px)`;
      const after = [...built.keys()].filter((other) => other > rowNumber);
      grid.insertBefore(element, after.length ? built.get(Math.min(...after)) : null);
      built.set(rowNumber, element);
    }
  }

  function render() {
    if (!rows.length || printing) return;
    const above = -grid.getBoundingClientRect().top;
    const first = rowAt(Math.max(0, above - OVERSCAN));
    const last = rowAt(above + innerHeight + OVERSCAN);
    if (!grid.contains(document.activeElement)) {
      let rowNumber = rowAt(Math.max(0, above + byId("toolbar").offsetHeight));
      if (rows[rowNumber].from === undefined) rowNumber += 1;
      const row = rows[rowOf[active]];
      if (!row || row.top + row.height < above || row.top > above + innerHeight) setActive(rows[rowNumber].from);
    }
    draw(first, last);
  }

  const cardAt = (position) => grid.querySelector(`[data-position="${position}"]`);

  function setActive(position) {
    const old = cardAt(active);
    if (old) old.tabIndex = -1;
    active = position;
    const now = cardAt(active);
    if (now) now.tabIndex = 0;
  }

  function focusCard(position) {
    setActive(position);
    const row = rows[rowOf[position]];
    const top = grid.getBoundingClientRect().top + row.top;
    const bar = byId("toolbar");
    const covered = getComputedStyle(bar).position === "sticky" ? bar.offsetHeight + 8 : 8;
    if (top < covered) scrollBy(0, top - covered);
    else if (top + row.height > innerHeight) scrollBy(0, top + row.height - innerHeight);
    draw(rowOf[position], rowOf[position]);
    cardAt(position).focus({ preventScroll: true });
    render();
  }

  function move(key) {
    const page = Math.max(1, Math.floor(innerHeight / rows[rowOf[active]].height) - 1) * columns;
    const rightToLeft = getComputedStyle(grid).direction === "rtl" ? -1 : 1;
    const steps = { ArrowRight: rightToLeft, ArrowLeft: -rightToLeft, ArrowDown: columns, ArrowUp: -columns, PageDown: page, PageUp: -page };
    if (key === "Home") return 0;
    if (key === "End") return shown.length - 1;
    if (!(key in steps)) return -1;
    return Math.min(shown.length - 1, Math.max(0, active + steps[key]));
  }

  // ---- One image ----

  const dialog = byId("dialog");
  let opened = 0; // the position that the dialog shows

  function show(position) {
    opened = position;
    const image = shown[position];
    byId("dialog-position").textContent = `${number.format(position + 1)} of ${number.format(shown.length)}`;
    byId("dialog-label").textContent = title(image);
    const unsure = image.unsure ? "Unsure: below the threshold" : "";
    const unknown = image.unknown ? "Unknown: unlike everything that the model was trained on" : "";
    const fact = image.failed ? "Not labelled" : [unknown, unsure].filter(Boolean).join(". ");
    byId("dialog-state").textContent = fact;
    byId("dialog-state").hidden = !fact;
    byId("dialog-image").replaceChildren(largeOf(image));
    byId("dialog-top").replaceChildren(...image.top.map((one) => make("li", {},
      make("bdi", { textContent: labelName(one.index) }),
      make("span", { textContent: one.score.toFixed(4) }), track(one.score))));
    byId("dialog-message").textContent = image.message || "";
    byId("dialog-message").hidden = !image.message;
    byId("dialog-name").textContent = image.name;
    byId("dialog-copied").textContent = "";
    byId("dialog-previous").disabled = position === 0;
    byId("dialog-next").disabled = position === shown.length - 1;
    if (!dialog.open) dialog.showModal();
  }

  // The file itself, where there is one and the page was opened from a folder; else its thumbnail.
  function largeOf(image) {
    const thumbnail = thumbnailOf(image) || "";
    if (!image.file) return thumbnail;
    const path = image.name.split("/").map(encodeURIComponent).join("/");
    const href = image.name.startsWith("/") ? path : data.base + path;
    const link = make("a", { href, target: "_blank", rel: "noopener", title: "Open the file" }, thumbnail);
    if (location.protocol === "file:") {
      const whole = make("img", { alt: image.base, decoding: "async" });
      whole.onload = () => link.replaceChildren(whole);
      whole.src = href;
    }
    return link;
  }

  function step(by) {
    const position = opened + by;
    if (position >= 0 && position < shown.length) show(position);
  }

  async function copyName() {
    let text = "Copied";
    try {
      await navigator.clipboard.writeText(byId("dialog-name").textContent);
    } catch { // no permission, or an old browser: select it, so that Ctrl+C works
      getSelection().selectAllChildren(byId("dialog-name"));
      text = "Selected: press Ctrl+C";
    }
    byId("dialog-copied").textContent = text;
  }

  // ---- Everything together ----

  const wide = matchMedia("(min-width: 60rem)");
  const fold = () => { byId("panel").open = wide.matches; };

  function update() {
    shown = matching();
    active = 0;
    for (const button of byId("figures").children) {
      button.setAttribute("aria-pressed", String(button.dataset.state === state.state));
    }
    if (byId("search").value !== state.q) byId("search").value = state.q;
    byId("sort").value = state.sort;
    byId("group").checked = state.group;
    updateLabels();
    updateErrors();
    updateRange();
    updateChips();
    updateCount();
    layOut();
    const start = byId("images").getBoundingClientRect().top;
    if (start < 0) scrollBy(0, start);
    render();
  }

  function listen() {
    let waiting = 0;
    const soon = () => {
      if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; render(); });
    };
    addEventListener("scroll", soon, { passive: true });
    let width = grid.clientWidth;
    addEventListener("resize", () => {
      if (printing) return;
      if (grid.clientWidth !== width) {
        width = grid.clientWidth;
        const held = grid.contains(document.activeElement);
        layOut();
        if (held && shown.length) focusCard(active);
      }
      render();
    });
    byId("panel").addEventListener("toggle", soon);
    document.addEventListener("DOMContentLoaded", fillAwaited);
    addEventListener("hashchange", () => { readAddress(); update(); });

    byId("search").addEventListener("input", (event) => change({ q: event.target.value }));
    byId("least").addEventListener("input", (event) => change({ min: Math.min(Number(event.target.value), state.max) }));
    byId("most").addEventListener("input", (event) => change({ max: Math.max(Number(event.target.value), state.min) }));
    byId("sort").addEventListener("change", (event) => change({ sort: event.target.value }));
    byId("group").addEventListener("change", (event) => change({ group: event.target.checked }));
    byId("all-labels").addEventListener("click", () => { allLabels = !allLabels; updateLabels(); });
    document.querySelector(".skip").addEventListener("click", (event) => {
      event.preventDefault(); // the address keeps the filters
      byId("images").focus();
      byId("images").scrollIntoView();
    });

    grid.addEventListener("click", (event) => {
      const button = event.target.closest(".card");
      if (button) show(Number(button.dataset.position));
    });
    grid.addEventListener("focusin", (event) => {
      const button = event.target.closest(".card");
      if (button) setActive(Number(button.dataset.position));
    });
    grid.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !shown.length) return;
      const position = move(event.key);
      if (position < 0) return;
      event.preventDefault();
      focusCard(position);
    });

    dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") step(-1);
      else if (event.key === "ArrowRight") step(1);
    });
    dialog.addEventListener("close", () => focusCard(opened));
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    byId("dialog-close").addEventListener("click", () => dialog.close());
    byId("dialog-previous").addEventListener("click", () => step(-1));
    byId("dialog-next").addEventListener("click", () => step(1));
    byId("dialog-copy").addEventListener("click", copyName);

    addEventListener("beforeprint", () => {
      printing = true;
      byId("panel").open = true;
      layOut();
      if (rows.length) draw(0, rowOf[Math.min(shown.length, PRINTED) - 1]);
    });
    addEventListener("afterprint", () => {
      printing = false;
      fold();
      layOut();
      render();
    });
  }

  function start() {
    byId("model").textContent = data.model;
    byId("version").textContent = data.version;
    if (images.length < counts.inputs) {
      byId("chosen").hidden = false;
      byId("chosen").textContent = `Showing ${number.format(images.length)} of the ${number.format(counts.inputs)} inputs. ` +
        "The numbers and charts count all of them. Shown are up to a tenth failures, by error code in turn; " +
        "the most and the least certain input of each label, frequent labels first; and the least certain of all.";
    }
    wide.addEventListener("change", fold);
    fold();
    buildFigures();
    buildHistogram();
    readAddress();
    update();
    listen();
    performance.mark("first-cards");
  }

  start();
})();
