// The page: gives images to the model in the worker and draws its detections. No framework, no build, no other host.

import { drawDetections, fit, offerClasses, row } from "./boxes.js";
import { Engine } from "./engine.js";
import { areStored, removeOthers } from "./files.js";
import { check } from "./odd-files.js";
import { stayOffline } from "./offline.js";
import { copyButtons, listen } from "./sources.js";

const LEAST = 0.05; // the threshold in the worker; the slider filters its detections without computing again
const NAMES = { wasm: "WebAssembly", webgpu: "WebGPU" };

const at = (id) => document.getElementById(id);
const state = { site: null, blob: null, bitmap: null, scale: 1, found: [], detected: "", marked: null, requests: 0, openings: 0 };
const engine = new Engine();

function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

// The detections that are shown

function shown() {
  const threshold = Number(at("threshold").value);
  const label = at("class").value;
  return state.found.filter((d) => d.score > threshold && (!label || d.label === label));
}

function sayCount() {
  if (state.detected) say(`${shown().length} found in ${state.detected}`);
}

function draw() {
  const canvas = at("canvas");
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!state.bitmap) return;
  context.drawImage(state.bitmap, 0, 0, canvas.width, canvas.height);
  const detections = shown();
  drawDetections(context, detections, state.scale, (d) => d === state.marked);
  canvas.setAttribute("aria-label", `Image with ${detections.length} detections: ${detections.map((d) => d.label).join(", ")}`);
}

function mark(detection) {
  state.marked = detection;
  draw();
}

function show() {
  const detections = shown();
  at("threshold-value").textContent = Number(at("threshold").value).toFixed(2);
  at("found").replaceChildren(...detections.map((d) => row(d, (marked) => mark(marked ? d : null))));
  at("json").textContent = JSON.stringify(detections, null, 1);
  mark(null);
}

function setImage(bitmap) {
  state.bitmap?.close();
  state.bitmap = bitmap;
  at("canvas").hidden = !bitmap;
  at("empty").hidden = Boolean(bitmap);
  if (bitmap) state.scale = fit(at("canvas"), bitmap);
  setDetections([]);
}

function setDetections(found) {
  state.found = found;
  offerClasses(at("class"), found);
  show();
}

// Detecting

async function detect(blob) {
  const number = ++state.requests;
  const isLatest = () => number === state.requests;
  state.blob = blob;
  state.detected = "";
  say("Reading the image …");
  setImage(null);
  at("empty").textContent = "No image";
  try {
    const notes = await check(blob);
    const bitmap = await createImageBitmap(blob).catch(() => { // upright
      throw new Error("This image is damaged, or too large for this browser.");
    });
    if (!isLatest()) return bitmap.close();
    setImage(bitmap);
    say("Preparing the model …");
    const network = await prepare();
    if (!isLatest()) return undefined;
    say("Detecting …");
    const { found, ms } = await engine.detect(blob, LEAST);
    if (!isLatest()) return undefined;
    setDetections(found);
    state.detected = [`${ms} ms (${bitmap.width} × ${bitmap.height}, ${runtime(network)}).`, ...notes].join(" ");
    sayCount();
  } catch (error) {
    if (isLatest()) say(error.message, true);
  }
  return undefined;
}

function runtime({ engine: name, threads }) {
  return name === "webgpu" ? NAMES.webgpu : `${NAMES.wasm}, ${threads} ${threads === 1 ? "thread" : "threads"}`;
}

// The model

const chosen = () => state.site.models[Number(at("model").value)];

async function chosenEngine() {
  if (at("engine").value !== "auto") return at("engine").value;
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return adapter ? "webgpu" : "wasm";
}

// What the chosen model and engine need: the worker's order, whether its files are in the browser's cache, and their bytes.
async function plan() {
  const order = { site: state.site, model: chosen(), engine: await chosenEngine(), mayFallBack: at("engine").value === "auto" };
  const files = [order.model, state.site.runtimes[order.engine]];
  return { order, isStored: await areStored(files), total: files.reduce((sum, { bytes }) => sum + bytes, 0) };
}

async function prepare() {
  await started;
  const number = ++state.openings;
  const isLatest = () => number === state.openings;
  const { order, isStored, total } = await plan();
  at("download").hidden = isStored;
  at("get").hidden = true;
  const progress = (bytes) => {
    at("progress").value = bytes / total;
    at("amount").textContent = `${megabytes(bytes)} of ${megabytes(total)} MB`;
  };
  try {
    const opened = await engine.open(order, progress);
    at("state").textContent = stateOf(opened);
    return opened;
  } catch (error) {
    if (isLatest()) await offerDownload();
    throw error;
  } finally {
    if (isLatest()) at("download").hidden = true;
  }
}

function stateOf(opened) {
  const keeps = opened.refused
    ? `This browser did not keep the model (${opened.refused}), so it is downloaded at each visit.`
    : navigator.serviceWorker?.controller ? "Works without a connection from now on." : "";
  const threads = opened.threads > 1 || opened.engine === "webgpu" || navigator.hardwareConcurrency < 2 || self.crossOriginIsolated
    ? "" : "One thread only: the page is not isolated, which needs https and a service worker.";
  return [opened.note, `Ready: ${runtime(opened)}.`, keeps, threads].filter(Boolean).join(" ");
}

// Offers the download unless the model is stored; whether it is.
async function offerDownload() {
  const { isStored, total } = await plan();
  at("get").textContent = `Download the model now (${megabytes(total)} MB)`;
  at("get").hidden = isStored;
  return isStored;
}

// Opens the model at once if that needs no download.
async function modelChanged() {
  engine.close();
  at("state").textContent = "";
  at("model-note").textContent = chosen().note;
  at("model-note").hidden = !chosen().note;
  const isStored = await offerDownload();
  if (state.blob && state.bitmap) detect(state.blob);
  else if (isStored) prepare().catch((error) => say(error.message, true));
}

async function start() {
  const response = await fetch("site.json").catch(() => null);
  if (!response?.ok) throw new Error("The list of models is missing: was the site made by publish.py?");
  state.site = await response.json();
  const query = new URLSearchParams(location.search); // ?model=NAME&engine=wasm
  at("model").replaceChildren(...state.site.models.map(({ name, bytes }, index) => new Option(`${name} (${megabytes(bytes)} MB)`, index)));
  const index = query.has("model") ? state.site.models.findIndex(({ name }) => name === query.get("model")) : 0;
  if (index < 0) say(`There is no model “${query.get("model")}” here; the first of the list is used.`, true);
  at("model").value = Math.max(0, index);
  if (!navigator.gpu) at("engine").querySelector("[value=webgpu]").disabled = true;
  if (query.get("engine") in NAMES) at("engine").value = query.get("engine");
  await removeOthers([...state.site.models, ...Object.values(state.site.runtimes)]);
}

listen(detect, (reason) => say(reason, true));
copyButtons();
for (const id of ["threshold", "class"]) {
  at(id).addEventListener("input", () => {
    show();
    sayCount();
  });
}
for (const id of ["model", "engine"]) at(id).addEventListener("change", modelChanged);
at("get").addEventListener("click", () => prepare().catch((error) => say(error.message, true)));
at("reload").addEventListener("click", () => location.reload());
addEventListener("resize", draw);

show();
stayOffline(() => { at("renewed").hidden = false; }, () => !state.blob && at("download").hidden).catch(() => {}); // it still works online
const started = start();
started.then(modelChanged).catch((error) => say(error.message, true));
