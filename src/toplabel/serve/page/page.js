// The page: where images come in, which model is asked, and the cards of what it said.

import { ask, onTokenNeeded } from "./api.js";
import { Card } from "./card.js";

const find = (id) => document.getElementById(id);
const cards = [];
const models = find("model");

const page = {
  model: () => models.value,
  say: (text) => (find("said").textContent = text),
  changed: count,
  removed(card) {
    const place = cards.indexOf(card);
    const hadFocus = card.element.contains(document.activeElement);
    cards.splice(place, 1);
    card.element.remove();
    count();
    if (hadFocus) (cards[Math.min(place, cards.length - 1)]?.find(".remove") ?? find("choose")).focus();
  },
};

/** Label these files, in their order. */
function add(files) {
  for (const file of files) {
    const card = new Card(file, page);
    cards.push(card);
    find("cards").append(card.element);
    ready.then(() => card.label());
  }
  count();
}

function count() {
  const of = (state) => cards.filter((card) => card.state === state).length;
  const parts = [`${cards.length} ${cards.length === 1 ? "image" : "images"}`];
  if (of("waiting")) parts.push(`${of("waiting")} to go`);
  if (of("failed")) parts.push(`${of("failed")} failed`);
  find("count").textContent = parts.join(", ");
  find("results").hidden = cards.length === 0;
  document.body.classList.toggle("busy", cards.length > 0);
}

/** Which models there are; asked again until there is an answer. */
async function readModels() {
  for (;;) {
    try {
      return showModels((await (await ask("/v1/models")).json()).models);
    } catch (trouble) {
      find("facts").textContent = trouble.message;
      await new Promise((resolve) => setTimeout(resolve, 3000));
    }
  }
}

function showModels(served) {
  const options = served.map(({ name }) => new Option(name.replace(/@[0-9a-f]+$/, ""), name));
  models.replaceChildren(...options);
  models.value = served.find((model) => model.default).name;
  models.disabled = served.length < 2;
  const tell = () => {
    const { classes } = served.find((model) => model.name === models.value);
    find("facts").textContent =
      `Each image gets one of ${classes.toLocaleString("en")} classes, whatever it shows. Images go to this server and nowhere else.`;
  };
  models.addEventListener("change", () => {
    tell();
    for (const card of cards) card.label();
  });
  tell();
}

function listen() {
  for (const id of ["choose", "camera"]) {
    find(id).addEventListener("change", ({ target }) => {
      add(target.files);
      target.value = ""; // the same file may be chosen again
    });
  }
  find("clear").addEventListener("click", () => {
    for (const card of [...cards]) card.remove();
    find("choose").focus();
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) {
      event.preventDefault();
      add(event.clipboardData.files);
    }
  });
  listenToDrops();
}

function listenToDrops() {
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  let inside = 0; // enter and leave come for each element
  addEventListener("dragenter", (event) => {
    if (carriesFiles(event)) find("veil").hidden = (inside += 1) === 0;
  });
  addEventListener("dragleave", (event) => {
    if (carriesFiles(event)) find("veil").hidden = (inside = Math.max(inside - 1, 0)) === 0;
  });
  addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    inside = 0;
    find("veil").hidden = true;
    add(event.dataTransfer.files);
  });
}

onTokenNeeded(
  (refused) =>
    new Promise((resolve) => {
      find("ask-title").textContent = refused ? "That is not the token" : "This server asks for a token";
      find("token").value = "";
      find("ask").addEventListener("close", () => resolve(find("token").value.trim()), { once: true });
      find("ask").showModal();
    }),
);

listen();
const ready = readModels();
