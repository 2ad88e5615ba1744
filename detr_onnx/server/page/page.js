// The page: sends an image to the server and draws the detections. No library, no build, no request to anywhere else.

import { drawDetections, fit, offerClasses, row } from "./boxes.js";
import { copyButtons, listen } from "./sources.js";

const RUN = "client/v4/accounts/local/ai/run/@cf/facebook/detr-resnet-50";
const EXPLAIN = "explain";
const LEAST = 0.05; // the threshold of every request; the slider filters its detections without another request
const NEEDS_TOKEN = [9106, 6003, 10000];
const TOKEN = /^[\x21-\x7e]+$/; // what a header can hold
const BAD_TOKEN = "The token has characters that no token has.";
const MESSAGES = {
  3003: "This file is empty.",
  3006: "The image is too large for this server.",
  3007: "The server took too long. Try again, or try a smaller image.",
  3010: "This file is not an image that the server can read, or it is damaged.",
  3011: "The image is too small.",
  3040: "The server is busy. Try again in a moment.",
  6003: BAD_TOKEN,
  9106: "This server needs a token.",
  10000: "The token is wrong.",
};

const at = (id) => document.getElementById(id);
const state = { blob: null, bitmap: null, scale: 1, found: [], answered: "", marked: -1, requests: 0, explained: null, heat: null, maps: null };

function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

// The detections that are shown, and how many there are

function shown() {
  const threshold = Number(at("threshold").value);
  const label = at("class").value;
  return state.found.filter((d) => d.score > threshold && (!label || d.label === label));
}

function sayCount() {
  if (state.answered) say(`${shown().length} found in ${state.answered}`);
}

// Drawing

function draw() {
  const canvas = at("canvas");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!state.bitmap) return;
  context.filter = state.heat ? "grayscale(100%)" : "none";
  context.drawImage(state.bitmap, 0, 0, canvas.width, canvas.height);
  context.filter = "none";
  context.imageSmoothingQuality = "high";
  if (state.heat) context.drawImage(state.heat, 0, 0, canvas.width, canvas.height); // a pixel a cell, smoothed
  const detections = shown();
  const isMarked = (d) => detections.indexOf(d) === state.marked || d === state.explained;
  drawDetections(context, detections, state.scale, isMarked, (d) => (state.heat && d !== state.explained ? 0.3 : 1));
  const names = detections.map((d) => d.label).join(", ");
  const heat = state.heat ? `, and where the model looks for the ${state.explained.label}` : "";
  canvas.setAttribute("aria-label", `Image with ${detections.length} detections: ${names}${heat}`);
}

function mark(index) {
  state.marked = index;
  draw();
}

function explainingRow(detection, index) {
  const item = row(detection, (marked) => mark(marked ? index : -1));
  const button = item.firstChild;
  button.setAttribute("aria-pressed", String(detection === state.explained));
  button.addEventListener("click", () => explain(detection));
  return item;
}

function curlLine() {
  const name = (state.blob && state.blob.name) || "image.jpg";
  const url = new URL(`${RUN}?threshold=${at("threshold").value}`, location.href);
  const token = at("token").value.trim() ? ' -H "Authorization: Bearer $TOKEN"' : "";
  return `curl '${url}' -X POST${token} --data-binary '@${name.replaceAll("'", "'\\''")}'`;
}

function show() {
  const detections = shown();
  at("threshold-value").textContent = Number(at("threshold").value).toFixed(2);
  at("found").replaceChildren(...detections.map(explainingRow));
  at("json").textContent = JSON.stringify(detections, null, 1);
  at("curl").textContent = curlLine();
  at("why").hidden = !detections.length;
  at("canvas").classList.toggle("clickable", detections.length > 0);
  state.marked = -1;
  if (!detections.includes(state.explained)) state.explained = state.heat = null;
  draw();
}

// Requests

function askForToken() {
  at("token-form").hidden = false;
  at("token").focus();
}

const unexpected = (status) => `The server answered with status ${status}.`; // a proxy may answer in its place

function messageOf(answer, status) {
  const { code, message } = answer?.errors?.[0] ?? {};
  return MESSAGES[code] || message?.replace(/^AiError: /, "").replace(/ \([\w.-]*\)$/, "") || unexpected(status);
}

// {answer, status}: the JSON of a response, null if it has none.
async function post(path, blob) {
  const headers = { "Content-Type": "application/octet-stream" };
  const token = at("token").value.trim();
  if (token && !TOKEN.test(token)) throw new Error(BAD_TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(`${path}?threshold=${LEAST}`, { method: "POST", headers, body: blob }).catch(() => null);
  if (!response) throw new Error(await unsent(blob));
  return { answer: await response.json().catch(() => null), status: response.status };
}

// Why a request could not be sent: a file that was changed or removed since it was chosen cannot be read.
async function unsent(blob) {
  const isReadable = await blob.slice(0, 1).arrayBuffer().then(() => true, () => false);
  return isReadable ? "The server cannot be reached." : "This file has changed or is gone. Choose it again.";
}

async function request(blob) {
  const started = performance.now();
  const { answer, status } = await post(RUN, blob);
  if (!Array.isArray(answer?.result)) {
    if (NEEDS_TOKEN.includes(answer?.errors?.[0].code)) askForToken();
    throw new Error(messageOf(answer, status));
  }
  return { found: answer.result, ms: Math.round(performance.now() - started) };
}

// Where the model looks: one request an image, whose answer has the maps of all its detections

async function requestMaps(blob) {
  const { answer, status } = await post(EXPLAIN, blob);
  if (!Array.isArray(answer?.objects)) throw new Error(typeof answer?.error === "string" ? answer.error : unexpected(status));
  return answer.objects;
}

function overlap(a, b) {
  const sides = (box) => [box.xmax - box.xmin, box.ymax - box.ymin];
  const area = ([width, height]) => Math.max(0, width) * Math.max(0, height);
  const shared = area([Math.min(a.xmax, b.xmax) - Math.max(a.xmin, b.xmin), Math.min(a.ymax, b.ymax) - Math.max(a.ymin, b.ymin)]);
  return shared / (area(sides(a)) + area(sides(b)) - shared || 1);
}

function mapOf(detection, maps) {
  const same = maps.filter((map) => map.label === detection.label);
  const nearest = same.sort((a, b) => overlap(b.box, detection.box) - overlap(a.box, detection.box))[0];
  if (!nearest) throw new Error("The server has no map for this detection.");
  return nearest;
}

async function explain(detection) {
  const isShown = () => state.explained === detection;
  const repeated = isShown();
  state.explained = repeated ? null : detection;
  state.heat = null;
  press();
  if (repeated) return sayCount();
  say("Looking …");
  const maps = state.maps = state.maps || requestMaps(state.blob);
  try {
    const { heat, peak } = mapOf(detection, await maps);
    const image = new Image();
    image.src = heat;
    await image.decode();
    if (!isShown()) return;
    state.heat = image;
    say(`Where the model looks for this ${detection.label}: the lightest spot gets ${(100 * peak).toPrecision(2)} % of its attention. Choose it again to hide this.`);
  } catch (error) {
    if (state.maps === maps) state.maps = null; // the next choice tries again
    if (!isShown()) return;
    state.explained = null;
    say(error.message, true);
  }
  press();
}

function press() {
  const detections = shown();
  [...at("found").querySelectorAll("button")].forEach((button, index) => {
    button.setAttribute("aria-pressed", String(detections[index] === state.explained));
  });
  draw();
}

at("canvas").addEventListener("click", (event) => {
  const canvas = at("canvas");
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const x = (event.clientX - left) / width * canvas.width / state.scale;
  const y = (event.clientY - top) / height * canvas.height / state.scale;
  const area = ({ box }) => (box.xmax - box.xmin) * (box.ymax - box.ymin);
  const hit = shown().filter(({ box }) => x >= box.xmin && x <= box.xmax && y >= box.ymin && y <= box.ymax);
  const detection = hit.sort((a, b) => area(a) - area(b))[0] || state.explained; // outside of all boxes: hide it
  if (detection) explain(detection);
});

function setBitmap(bitmap) {
  state.bitmap = bitmap;
  at("canvas").hidden = !bitmap;
  at("empty").hidden = Boolean(bitmap);
  if (bitmap) state.scale = fit(at("canvas"), bitmap);
}

function setDetections(found) {
  state.found = found;
  offerClasses(at("class"), found);
  show();
}

async function detect(blob) {
  const number = ++state.requests;
  const isLatest = () => number === state.requests;
  state.blob = blob;
  state.maps = state.explained = state.heat = null;
  state.answered = "";
  say("Detecting …");
  const bitmap = await createImageBitmap(blob).catch(() => null); // upright, as the server sees it
  if (!isLatest()) return;
  setBitmap(bitmap);
  at("empty").textContent = "This browser cannot show this image.";
  setDetections([]);
  try {
    const { found, ms } = await request(blob);
    if (!isLatest()) return;
    setDetections(found);
    const size = bitmap ? `${bitmap.width} × ${bitmap.height}, ` : "";
    const note = bitmap ? "" : " This browser cannot show this kind of image, but the server can read it.";
    state.answered = `${ms} ms (${size}${Math.ceil(blob.size / 1000)} kB).${note}`;
    sayCount();
  } catch (error) {
    if (!isLatest()) return;
    at("empty").textContent = "No image";
    say(error.message, true);
  }
}

// Controls

listen(detect, (reason) => say(reason, true));
copyButtons();
for (const id of ["threshold", "class"]) {
  at(id).addEventListener("input", () => {
    show();
    if (!state.explained) sayCount();
  });
}
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.blob) detect(state.blob);
});

async function noteDemo() {
  const ready = await fetch("readyz").then((response) => response.json()).catch(() => ({})); // not worth an error
  at("demo-note").hidden = !/^demo(-panoptic)?$/.test(ready.model);
  if (ready.status === "loading") setTimeout(noteDemo, 1000);
}

noteDemo();
addEventListener("resize", draw);
show();
