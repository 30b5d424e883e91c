// One image: its file, what was said of it, and why.

import { ask, here, Trouble } from "./api.js";
import { copy } from "./copying.js";

const template = document.getElementById("card");
const rowTemplate = document.getElementById("row");
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const TOP = 5;
const NO_CLASS = "(none)";
const HINT = "Choose a class to see the evidence for it.";

function answerOf({ label, unknown }) {
  const named = label ?? NO_CLASS;
  return unknown ? `Unknown (nearest: ${named})` : named;
}

export class Card {
  /** @param {File} file  @param {{model: () => string, say: (text: string) => void, changed: () => void}} page */
  constructor(file, page) {
    this.file = file;
    this.page = page;
    this.state = "waiting"; // waiting, labelled, failed
    this.record = null;
    this.explained = new Map(); // class index -> {url, text}
    this.shown = null; // the class whose heat is over the image
    this.stop = new AbortController();
    this.element = template.content.firstElementChild.cloneNode(true);
    this.photo = URL.createObjectURL(file);
    this.find(".name").textContent = file.name;
    const image = this.find(".photo");
    image.alt = file.name;
    image.addEventListener("error", () => this.showNoPreview());
    image.src = this.photo;
    this.find(".remove").addEventListener("click", () => this.remove());
    this.find(".remove").setAttribute("aria-label", `Remove ${file.name}`);
    this.find(".retry").addEventListener("click", () => this.label());
    this.find(".copy-json").addEventListener("click", (event) => copy(event.target, JSON.stringify(this.record, null, 2)));
    this.find(".copy-curl").addEventListener("click", (event) => copy(event.target, this.curl()));
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  /** Ask for the labels, anew where it has some. */
  async label() {
    this.stop.abort();
    const stop = (this.stop = new AbortController());
    this.forgetHeat();
    this.set("waiting");
    const query = new URLSearchParams({ model: this.page.model(), top_k: TOP });
    try {
      const response = await ask(`/v1/classify?${query}`, this.request(stop));
      const answer = await response.json();
      if (stop.signal.aborted) return;
      this.record = { ...answer.predictions[0], source: this.file.name };
      this.showRecord();
      this.page.say(`${this.file.name}: ${answerOf(this.record)}, ${percent.format(this.record.score)}`);
    } catch (trouble) {
      if (stop.signal.aborted) return;
      this.fail(trouble);
    }
  }

  request(stop) {
    return { method: "POST", body: this.file, headers: { "Content-Type": "application/octet-stream" }, signal: stop.signal };
  }

  set(state) {
    this.state = state;
    this.find(".state").textContent = state === "waiting" ? "Looking…" : "";
    this.find(".state").hidden = state !== "waiting";
    this.element.classList.toggle("failed", state === "failed");
    this.find(".error").hidden = state !== "failed";
    this.find(".labelled").hidden = state !== "labelled";
    this.find(".copy-json").hidden = this.find(".copy-curl").hidden = state !== "labelled";
    this.page.changed();
  }

  fail(trouble) {
    const known = trouble instanceof Trouble;
    this.find(".error .words").textContent = known ? trouble.message : "Something went wrong in this page.";
    this.find(".error .code").textContent = known ? trouble.code : "internal";
    this.find(".retry").hidden = known && !trouble.again;
    this.set("failed");
    this.page.say(`${this.file.name}: ${this.find(".error .words").textContent}`);
    if (!known) throw trouble;
  }

  showRecord() {
    const { unsure, unknown, warnings, top } = this.record;
    this.find(".label").textContent = answerOf(this.record);
    this.find(".unsure").hidden = !unsure;
    this.find(".unknown").hidden = !unknown;
    this.find(".warnings").replaceChildren(...warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    const names = top.map((one) => one.label);
    this.find(".top").replaceChildren(...top.map((one) => this.row(one, names.filter((name) => name === one.label).length > 1)));
    this.set("labelled");
  }

  row({ label, index, score }, ambiguous) {
    const row = rowTemplate.content.firstElementChild.cloneNode(true);
    row.querySelector(".name").textContent = label;
    row.querySelector(".id").textContent = ambiguous ? `class ${index}` : "";
    row.querySelector(".score").textContent = percent.format(score);
    row.querySelector(".fill").style.width = `${100 * score}%`;
    const button = row.querySelector("button");
    button.dataset.index = index;
    button.addEventListener("click", () => this.toggleHeat(index));
    return row;
  }

  /** The heat map of a class over the image, or the image alone again. */
  async toggleHeat(index) {
    if (this.shown === index) return this.showHeat(null);
    const stop = this.stop;
    this.showHeat(index);
    if (this.explained.has(index)) return;
    const why = this.find(".why");
    why.textContent = "Looking for the evidence…";
    this.find(".image").classList.add("waiting");
    try {
      const found = await this.explain(index, stop);
      if (stop.signal.aborted) return URL.revokeObjectURL(found.url);
      this.explained.set(index, found);
    } catch (trouble) {
      if (stop.signal.aborted) return;
      if (this.shown === index) this.showHeat(null);
      why.textContent = trouble instanceof Trouble ? trouble.message : "The heat map cannot be shown.";
      return;
    }
    if (this.shown === index) this.showHeat(index);
  }

  async explain(index, stop) {
    const query = new URLSearchParams({ model: this.page.model(), label: index, format: "png" });
    const response = await ask(`/v1/explain?${query}`, this.request(stop));
    const facts = JSON.parse(response.headers.get("X-Explanation"));
    return { url: URL.createObjectURL(await response.blob()), text: sentenceOf(facts) };
  }

  showHeat(index) {
    this.shown = index;
    for (const button of this.element.querySelectorAll(".class")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.index) === index));
    }
    const found = this.explained.get(index);
    const heat = this.find(".heat");
    this.find(".image").classList.remove("waiting");
    heat.hidden = !found;
    this.find(".photo").hidden = Boolean(found) || this.unseen;
    this.find(".none").hidden = Boolean(found) || !this.unseen;
    if (found) {
      heat.src = found.url;
      heat.alt = `${this.file.name}. ${found.text}`;
    }
    this.find(".why").textContent = found ? found.text : HINT;
  }

  showNoPreview() {
    this.unseen = true;
    this.find(".photo").hidden = true;
    this.find(".none").hidden = false;
  }

  forgetHeat() {
    for (const { url } of this.explained.values()) URL.revokeObjectURL(url);
    this.explained.clear();
    this.showHeat(null);
  }

  curl() {
    const query = new URLSearchParams({ model: this.page.model(), top_k: TOP });
    const name = this.file.name.replaceAll("'", `'\\''`);
    return `curl --data-binary @'${name}' '${here(`/v1/classify?${query}`)}'`;
  }

  remove() {
    this.stop.abort();
    this.forgetHeat();
    URL.revokeObjectURL(this.photo);
    this.page.removed(this);
  }
}

function sentenceOf({ label, method, faithfulness, random_faithfulness }) {
  const how = method === "gradcam" ? "By gradients (Grad-CAM)" : "By covering parts of it";
  const points = (share) => `${(100 * share).toFixed(0)} points`;
  return `Evidence for ${label}. ${how}; without the hottest tenth its score falls by ${points(faithfulness)}, without another tenth by ${points(random_faithfulness)}.`;
}
