// What the page asks of its server: at most four requests at once, tried again where it is busy.

const AT_ONCE = 4;
const TRIES = 5;
const KEY = "toplabel-token";

/** An answer that is no answer: a code for programs, a sentence for people. */
export class Trouble extends Error {
  constructor(code, message, { again = false } = {}) {
    super(message);
    this.code = code;
    this.again = again; // whether asking again may help
  }
}

/** The address of a path of the API, also where a proxy serves all this below another path. */
export function here(path) {
  return new URL(`..${path}`, import.meta.url).href;
}

const waiting = [];
let running = 0;
let asking = null; // the token that is being asked for

/** Where the page asks people for the token: a function that promises it. */
let askForToken = async () => null;
export function onTokenNeeded(ask) {
  askForToken = ask;
}

/** The answer to a request; waits for its turn. */
export function ask(path, options = {}) {
  return new Promise((resolve, reject) => {
    waiting.push({ path, options, resolve, reject });
    next();
  });
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    const { path, options, resolve, reject } = waiting.shift();
    if (options.signal?.aborted) {
      reject(new Trouble("removed", "removed"));
      continue;
    }
    running += 1;
    send(path, options).then(resolve, reject).finally(() => {
      running -= 1;
      next();
    });
  }
}

async function send(path, options) {
  for (let tried = 1; ; tried += 1) {
    const used = sessionStorage.getItem(KEY);
    const response = await fetchOnce(path, options, used);
    if (response.ok) return response;
    if (response.status === 401) {
      await renewToken(used);
      continue;
    }
    if (response.status === 503 && tried < TRIES) {
      await sleep(1000 * Math.min(Number(response.headers.get("Retry-After")) || 1, 10));
      continue;
    }
    throw await troubleOf(response);
  }
}

async function fetchOnce(path, options, token) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    return await fetch(here(path), { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw new Trouble("removed", "removed");
    throw new Trouble("no_answer", "The server does not answer. Is it still running?", { again: true });
  }
}

/** All requests wait for one answer to one question. */
async function renewToken(used) {
  if (sessionStorage.getItem(KEY) !== used) return; // another has been given meanwhile
  asking ??= askForToken(used !== null).finally(() => (asking = null));
  const token = await asking;
  if (!token) throw new Trouble("unauthorized", "This server asks for a token.", { again: true });
  sessionStorage.setItem(KEY, token);
}

async function troubleOf(response) {
  const again = response.status >= 500;
  try {
    const { error } = await response.json();
    return new Trouble(error.code, sentence(error.code, error.message), { again });
  } catch {
    return new Trouble(`http_${response.status}`, "The server's answer cannot be understood.", { again });
  }
}

const SENTENCES = {
  not_an_image: "This is not an image.",
  unsupported_format: "Images of this format are not supported.",
  truncated: "The image is cut short: a part of the file is missing.",
  corrupt: "The image is damaged.",
  empty: "The file is empty.",
  busy: "The server has too much to do.",
};

function sentence(code, message) {
  return SENTENCES[code] ?? message.charAt(0).toUpperCase() + message.slice(1);
}

function sleep(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
