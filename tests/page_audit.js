// What page_audit.py asks of a page: an object of functions, each of which looks at the document as it stands.
({
// Texts whose contrast with what is behind them is below WCAG's AA: 4.5, of large ones 3.
contrasts: () => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const known = new Map();
  const rgba = (color) => {
    if (!known.has(color)) {
      canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
      known.set(color, [...canvas.getImageData(0, 0, 1, 1).data]);
    }
    return known.get(color);
  };
  const over = (under, [r, g, b, a], opacity = 1) =>
    [r, g, b].map((value, i) => value * a * opacity / 255 + under[i] * (1 - a * opacity / 255));
  const canvasOf = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18] : [255, 255, 255];
  const behind = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      layers.push(rgba(getComputedStyle(one).backgroundColor));
    }
    return layers.reverse().reduce((under, layer) => over(under, layer), canvasOf);
  };
  const light = (color) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const value = color[i] / 255;
    return sum + weight * (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  }, 0);
  const low = new Set();
  const check = (element, color, style, text) => {
    let opacity = 1;
    for (let one = element; one; one = one.parentElement) opacity *= Number(getComputedStyle(one).opacity);
    if (!opacity) return; // what comes when it is reached
    const ground = behind(element);
    const [a, b] = [light(over(ground, rgba(color), opacity)), light(ground)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) low.add(`contrast ${ratio.toFixed(2)}: ${text.slice(0, 50)}`);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const element = walker.currentNode.parentElement;
    if (!text || element.closest("script, style, template, noscript, :disabled, title")) continue;
    if (!element.checkVisibility({visibilityProperty: true, contentVisibilityAuto: true})) continue;
    const style = getComputedStyle(element);
    if (style.clipPath !== "none") continue; // for screen readers alone
    check(element, element.closest("svg") ? style.fill : style.color, style, text);
  }
  for (const input of document.querySelectorAll("[placeholder]")) {
    if (!input.checkVisibility()) continue;
    const style = getComputedStyle(input, "::placeholder");
    check(input, style.color, style, input.placeholder);
  }
  return [...low];
},

// What a screen reader could not name, find or tell apart.
structure: () => {
  const found = [];
  const about = (element) => element.outerHTML.slice(0, 80);
  const seen = (element) => element.checkVisibility({visibilityProperty: true});
  if (!document.documentElement.lang) found.push("no language");
  if (!document.title.trim()) found.push("no title");
  if (!document.querySelector("meta[name=viewport]")) found.push("no viewport");
  if ([...document.querySelectorAll("h1")].filter(seen).length !== 1) found.push("not one h1");
  if (!document.querySelector("main")) found.push("no main");
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  for (const id of new Set(ids.filter((one, i) => ids.indexOf(one) !== i))) found.push(`id ${id} twice`);
  let level = 0;
  for (const heading of [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter(seen)) {
    const now = Number(heading.tagName[1]);
    if (now > level + 1) found.push(`h${now} below h${level}: ${heading.textContent.slice(0, 40)}`);
    level = now;
  }
  for (const image of document.querySelectorAll("img")) {
    if (image.getAttribute("alt") === null) found.push(`no alt: ${about(image)}`);
    else if (image.src && image.complete && !image.naturalWidth && seen(image)) found.push(`broken: ${about(image)}`);
  }
  for (const svg of document.querySelectorAll("svg[role=img]")) {
    if (!svg.getAttribute("aria-label")) found.push(`unnamed: ${about(svg)}`);
  }
  const named = (element) => {
    const by = (element.getAttribute("aria-labelledby") || "").split(" ").filter(Boolean);
    const texts = [
      element.getAttribute("aria-label"), element.title, element.placeholder, element.textContent,
      ...by.map((id) => document.getElementById(id)?.textContent),
      ...[...(element.labels || [])].map((label) => label.textContent),
      ...[...element.querySelectorAll("img[alt]")].map((image) => image.alt),
    ];
    return texts.some((text) => text && text.trim());
  };
  const controls = "a[href], button, input:not([type=hidden]), select, textarea, summary, [role=button], dialog[open], [tabindex='0']";
  for (const element of document.querySelectorAll(controls)) {
    if (seen(element) && !named(element)) found.push(`unnamed: ${about(element)}`);
  }
  for (const cell of document.querySelectorAll("th")) {
    if (!cell.scope && !cell.closest("thead")) found.push(`th without scope: ${about(cell)}`);
  }
  return found;
},

// What Tab should reach: all that can be used and is seen; of a group with a roving tabindex one.
reachable: () => {
  const scope = document.querySelector("dialog:modal") || document;
  const all = scope.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]");
  const wanted = [...all].filter((one) => one.tabIndex >= 0 && !one.disabled && one.type !== "hidden" &&
    one.checkVisibility({visibilityProperty: true, contentVisibilityAuto: true}) && !one.closest("[inert]"));
  wanted.forEach((one, i) => { one.dataset.reach = i; });
  const radios = new Set();
  return wanted.filter((one) => {
    if (one.type !== "radio") return true;
    if (radios.has(one.name)) return false;
    radios.add(one.name);
    return true;
  }).map((one) => one.dataset.reach);
},

// The element that has the focus: its number, whether a ring shows that, and where it is.
focused: () => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const ringed = (element) => {
    const style = getComputedStyle(element);
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  };
  const near = [one, one.parentElement, ...one.querySelectorAll("*")];
  const box = one.getBoundingClientRect();
  return {reach: one.dataset.reach, about: one.outerHTML.slice(0, 80), ringed: near.some(ringed),
    box: {x: box.x - 8, y: box.y - 8, width: box.width + 16, height: box.height + 16}};
},
})
